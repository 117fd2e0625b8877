// Polling schedule of all port watches: one timer and one CPU budget. Owned by the AccessSet; every
// watch has a PollSlot in it. It knows nothing of sockets, only what a poll costs.
//
// Three quarters of the budget go into the round: every slot is polled each interval(), which is
// what the round costs, as measured, over that share, within the configured bounds. A slot that is
// expensive by itself is polled less often instead of slowing down the others. The last quarter,
// and what the round leaves, fills a token bucket, which pays for everything that is requested in
// between: a slot with a sign of life (kQuickFor), one with a change, events read. An empty bucket
// delays those to the next round; it never stops the round. What a poll costs above an eighth of
// the bucket delays such expensive polls alone. The last quarter of the bucket is kept for changes,
// so that a close is noticed at once however many containers are being polled often, and the
// quarter above it for the first polls after a sign of life. All polls that are nearly due share
// one wake-up.
#pragma once

#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/process_usage.h"
#include "config/settings.h"
#include "event/event_loop.h"

namespace portfwd {

class PollSlot;

/// What is polled; PortWatch, and probes in tests.
class Pollable {
 public:
  enum class Depth {
    Quick,  ///< cheap: find out whether something may have changed; a full poll only then
    Full,
  };
  /// @return how deep the poll was in the end. It may destroy its own slot, or any other.
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
  /// What a poll costs beside itself: the wake-up, the timer, the way through epoll. Measured on a
  /// busy machine, where the caches are cold: 25 to 45 µs; on an idle one it is half of that.
  static constexpr Duration kWakeCost = std::chrono::microseconds(25);

  Pace(EventLoop& loop, const Settings::Detect& settings, CpuMeter meter = thread_cpu_time);

  void configure(const Settings::Detect& settings);

  [[nodiscard]] Duration interval() const { return interval_; }  ///< of the round, now in force
  [[nodiscard]] Duration mean_cost() const;                      ///< of one poll, CPU time
  [[nodiscard]] Duration total_cost() const { return total_; }   ///< since the start, CPU time

  [[nodiscard]] Duration cpu_time() const { return meter_(); }

 private:
  friend class PollSlot;
  void round();
  [[nodiscard]] bool wanted(const PollSlot& slot, bool in_round) const;
  void visit(std::size_t index, bool in_round);
  [[nodiscard]] bool full_poll_due(const PollSlot& slot);
  void account(Duration cpu, Duration wall, bool in_round);
  void adapt();
  void arm();
  void arm_for(const PollSlot& slot);
  void refill();
  void spend(Duration cpu);
  [[nodiscard]] TimePoint holds_more_than_at(Duration level) const;
  [[nodiscard]] TimePoint round_due(const PollSlot& slot) const;
  [[nodiscard]] TimePoint extra_due(const PollSlot& slot) const;
  [[nodiscard]] Duration own_interval(const PollSlot& slot) const;
  [[nodiscard]] bool quick(const PollSlot& slot) const;
  [[nodiscard]] Duration bucket_size() const;
  [[nodiscard]] Duration expensive_above() const { return bucket_size() / 8; }

  EventLoop& loop_;
  CpuMeter meter_;
  Settings::Detect settings_;
  double budget_ = 0;             ///< CPU time per time, for all polling
  std::vector<PollSlot*> slots_;  ///< nullptr: left during the round in progress
  bool in_progress_ = false;

  Duration interval_{};
  Duration quick_interval_ = kQuickInterval;
  Duration full_interval_ = kMinFullInterval;
  std::size_t full_quota_ = 0;  ///< full polls that nothing calls for, still allowed in this round
  Duration extra_wall_{};       ///< in this round, for polls that were asked for in between
  Duration expensive_wall_{};  ///< the part of it that expensive polls took above expensive_above()
  double extra_rate_ = 0;      ///< the part of the budget that fills the bucket
  Duration tokens_{};          ///< the bucket: CPU time; negative: in debt
  TimePoint refilled_;
  TimePoint expensive_from_ =
      TimePoint::min();  ///< expensive polls beside the round wait until then
  Duration total_{};
  Timer timer_;
};

/// A place in the round; a member of the Pollable, which leaves by destroying it. The first poll
/// follows in the loop's next turn; it counts as a sign of life.
class PollSlot {
 public:
  PollSlot(Pace& pace, Pollable& pollable);
  PollSlot(const PollSlot&) = delete;
  PollSlot& operator=(const PollSlot&) = delete;
  ~PollSlot();

  /// A sign of life: poll soon (2, 4, 8 ... ms from now) and often for kQuickFor.
  void expedite();
  /// What has just gone may come back at once, as in a server that reloads: as expedite(), but in
  /// quick succession only for 250 ms.
  void expect_return();
  /// What the sign of life announced has come: polls often, but no more in quick succession.
  void slow_down();
  /// It polls by other means from now on.
  void forget_costs();
  /// Something has changed: poll in full as soon as the budget allows.
  void request_full_poll();
  /// Whether work between the rounds may be done now; if not, request_full_poll() comes when it
  /// may.
  [[nodiscard]] bool affordable();
  /// Work done between the rounds, a wake-up included.
  void charge(Duration cpu) { pace_.spend(cpu + Pace::kWakeCost); }

 private:
  friend class Pace;
  void expedite_for(Duration first_polls);
  Pace& pace_;
  Pollable& pollable_;
  TimePoint last_ = TimePoint::min();  ///< poll; min: none yet
  TimePoint last_full_ = TimePoint::min();
  TimePoint expedited_at_ = TimePoint::min();
  Duration first_polls_;  ///< after expedited_at_: in quick succession
  bool urgent_ = false;
  Duration cost_{};       ///< of a poll, as it goes
  Duration full_cost_{};  ///< of one in full; zero: it never was necessary
  Duration sample_{-1};   ///< the poll of the round in progress; negative: none
  bool sample_full_ = false;
};

}  // namespace portfwd
