// Polling schedule of all port watches: one timer and one CPU budget. Owned by the AccessSet; every
// watch has a PollSlot in it. It knows only what a poll costs, and nothing of sockets.
//
// Three quarters of the budget pay for the round: every slot is polled once each interval(), which
// is the measured cost of the round divided by that share, within the configured bounds. A slot
// that is expensive by itself is polled less often, so that it does not slow down the others.
//
// The last quarter, and what the round does not use, fills a token bucket. The bucket pays for
// everything that is requested between rounds: polls of a slot after a sign of life (for kQuickFor)
// or a change, and reading events. If the bucket is empty these wait until it has been refilled or
// until the next round; the round itself never waits. The cost of a poll above an eighth of the
// bucket is not taken from the bucket: it delays only the next expensive polls. The last quarter of
// the bucket is reserved for changes, so that a close is noticed at once however many containers
// are polled often, and the quarter above it for the first polls after a sign of life. All polls
// that are nearly due share one wake-up.
#pragma once

#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/process_usage.h"
#include "config/settings.h"
#include "event/event_loop.h"

namespace portfwd {

class PollSlot;

/// A thing to poll: a PortWatch, or a probe in tests.
class Pollable {
 public:
  enum class Depth {
    Quick,  ///< cheap check whether something may have changed; a full poll only if so
    Full,
  };
  /// @return the depth that the poll had in the end. It may destroy its own slot, or any other.
  virtual Depth poll(Depth depth) = 0;

 protected:
  ~Pollable() = default;
};

class Pace {
 public:
  using CpuMeter = std::function<Duration()>;

  static constexpr Duration kQuickFor = std::chrono::seconds(15);
  static constexpr Duration kQuickInterval = std::chrono::milliseconds(50);
  static constexpr Duration kFirstStep = std::chrono::milliseconds(2);
  static constexpr Duration kMinFullInterval = std::chrono::milliseconds(250);
  static constexpr Duration kMaxFullInterval = std::chrono::seconds(30);
  /// CPU time of a wake-up in addition to the polls: the wake-up itself, the timer, epoll.
  /// Measured: 25 to 45 µs on a busy machine, where the caches are cold; half of that on an idle
  /// one.
  static constexpr Duration kWakeCost = std::chrono::microseconds(25);

  Pace(EventLoop& loop, const Settings::Detect& settings, CpuMeter meter = thread_cpu_time);

  void configure(const Settings::Detect& settings);

  [[nodiscard]] Duration interval() const { return interval_; }  ///< of the round, at present
  [[nodiscard]] Duration mean_cost() const;                      ///< of one poll, CPU time
  [[nodiscard]] Duration total_cost() const { return total_; }   ///< since the start, CPU time

  [[nodiscard]] Duration cpu_time() const { return meter_(); }

 private:
  friend class PollSlot;
  void round();
  [[nodiscard]] bool wanted(const PollSlot& slot, bool in_round) const;
  void poll_slot(std::size_t index, bool in_round);
  [[nodiscard]] bool full_poll_due(const PollSlot& slot);
  void account(Duration cpu, Duration wall, bool in_round);
  void adapt();
  void arm();
  void arm_for(const PollSlot& slot);
  void refill();
  void spend(Duration cpu);
  [[nodiscard]] TimePoint refilled_above_at(Duration level) const;
  [[nodiscard]] TimePoint round_due(const PollSlot& slot) const;
  [[nodiscard]] TimePoint extra_due(const PollSlot& slot) const;
  [[nodiscard]] Duration own_interval(const PollSlot& slot) const;
  [[nodiscard]] bool quick(const PollSlot& slot) const;
  [[nodiscard]] Duration bucket_size() const;
  [[nodiscard]] Duration expensive_above() const { return bucket_size() / 8; }

  EventLoop& loop_;
  CpuMeter meter_;
  Settings::Detect settings_;
  double budget_ = 0;             ///< fraction of one CPU, for all polling
  std::vector<PollSlot*> slots_;  ///< nullptr: destroyed during the round in progress
  bool in_progress_ = false;

  Duration interval_{};
  Duration quick_interval_ = kQuickInterval;
  Duration full_interval_ = kMinFullInterval;
  std::size_t full_quota_ = 0;  ///< full polls without a cause that this round may still make
  Duration extra_wall_{};       ///< time that this wake-up took for polls that the bucket pays
  Duration expensive_wall_{};   ///< the part of it above expensive_above() of each poll
  double extra_rate_ = 0;       ///< the part of the budget that fills the bucket
  Duration tokens_{};           ///< the bucket: CPU time; negative: in debt
  TimePoint refilled_;
  TimePoint expensive_from_ =
      TimePoint::min();  ///< expensive polls outside the round wait until then
  Duration total_{};
  Timer timer_;
};

/// A place in the schedule; a member of the Pollable, which leaves the schedule by destroying it.
/// The first poll follows in the next turn of the loop and counts as a sign of life.
class PollSlot {
 public:
  PollSlot(Pace& pace, Pollable& pollable);
  PollSlot(const PollSlot&) = delete;
  PollSlot& operator=(const PollSlot&) = delete;
  ~PollSlot();

  /// Notifies of a sign of life: polls soon (2, 4, 8, 16 ... ms from now) and often for kQuickFor.
  void expedite();
  /// Notifies that a listener has closed and may return at once, as when a server reloads: as
  /// expedite(), but in quick succession for 250 ms only.
  void expect_reopen();
  /// Notifies that the expected listener has come: still polls often, but no longer in quick
  /// succession.
  void slow_down();
  /// Resets the measured costs. Must be called when the slot polls by other means from now on.
  void reset_costs();
  /// Notifies of a change: polls in full as soon as the bucket permits.
  void request_full_poll();
  /// Whether the bucket permits work between rounds now. If not, call request_full_poll(): that
  /// poll comes when the bucket permits and can do the work.
  [[nodiscard]] bool can_spend();
  /// Takes the CPU time of work between rounds from the bucket, and that of its wake-up.
  void charge(Duration cpu) { pace_.spend(cpu + Pace::kWakeCost); }

 private:
  friend class Pace;
  void expedite_for(Duration first_polls);
  Pace& pace_;
  Pollable& pollable_;
  TimePoint last_ = TimePoint::min();  ///< last poll; min: none yet
  TimePoint last_full_ = TimePoint::min();
  TimePoint expedited_at_ = TimePoint::min();
  Duration first_polls_;  ///< duration after expedited_at_ with polls in quick succession
  bool urgent_ = false;
  Duration cost_{};       ///< mean CPU time of a poll
  Duration full_cost_{};  ///< mean CPU time of a full poll; zero: none yet
  Duration sample_{-1};   ///< wall time of the poll in this wake-up; negative: none
  bool sample_full_ = false;
};

}  // namespace portfwd
