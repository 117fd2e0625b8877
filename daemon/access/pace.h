// When each container is looked at: one timer and one CPU budget for all of them. Owned by main;
// every watch has a Seat in it. It knows nothing of sockets, only what a look costs.
//
// Three quarters of the budget go into the round: every seat is looked at each interval(), which is
// what the round costs, as measured, over that share, within the configured bounds. A seat that is
// dear by itself is looked at less often instead of slowing down the others. The last quarter, and
// what the round leaves, fills a bucket, from which everything that is asked for in between is
// paid: a seat with a sign of life (kQuickFor), one that has news, events read. An empty bucket
// delays those to the next round; it never stops the round. What a look costs above an eighth
// of the bucket delays such dear looks alone. Its last quarter is kept for news, so
// that a close is told at once however many containers are being looked at often, and the one above
// it for the first looks after a sign of life.
// All looks that are nearly due share one wake-up.
#pragma once

#include <functional>
#include <vector>

#include "base/clock.h"
#include "base/process_usage.h"
#include "config/settings.h"
#include "event/event_loop.h"

namespace portfwd {

class Looker {
 public:
  enum class Depth {
    Glance,  ///< cheap: find out whether something may have changed, and look in full only then
    Full,
  };
  /// @return how deep the look was in the end. It may destroy its own seat, or any other.
  virtual Depth look(Depth depth) = 0;

 protected:
  ~Looker() = default;
};

class Pace {
 public:
  class Seat;
  using CpuMeter = std::function<Duration()>;

  static constexpr Duration kQuickFor = std::chrono::seconds(15);
  static constexpr Duration kQuickInterval = std::chrono::milliseconds(50);
  static constexpr Duration kFirstStep = std::chrono::milliseconds(2);
  static constexpr Duration kMinFullInterval = std::chrono::milliseconds(250);
  static constexpr Duration kMaxFullInterval = std::chrono::seconds(30);
  /// What a look costs beside itself: the wake-up, the timer, the way through epoll. Measured on a
  /// busy machine, where the caches are cold: 25 to 45 µs; on an idle one it is half of that.
  static constexpr Duration kWakeCost = std::chrono::microseconds(25);

  Pace(EventLoop& loop, const Settings::Detect& settings, CpuMeter meter = thread_cpu_time);

  void configure(const Settings::Detect& settings);

  [[nodiscard]] Duration interval() const { return interval_; }  ///< of the round, now in force
  [[nodiscard]] Duration mean_cost() const;                      ///< of one look, CPU time
  [[nodiscard]] Duration total_cost() const { return total_; }   ///< since the start, CPU time

  [[nodiscard]] Duration cpu_time() const { return meter_(); }

 private:
  void round();
  [[nodiscard]] bool wanted(const Seat& seat, bool in_round) const;
  void visit(std::size_t index, bool in_round);
  [[nodiscard]] bool full_look_due(const Seat& seat);
  void settle(Duration cpu, Duration wall, bool in_round);
  void adapt();
  void arm();
  void arm_for(const Seat& seat);
  void refill();
  void spend(Duration cpu);
  [[nodiscard]] TimePoint holds_more_than_at(Duration level) const;
  [[nodiscard]] TimePoint round_due(const Seat& seat) const;
  [[nodiscard]] TimePoint extra_due(const Seat& seat) const;
  [[nodiscard]] Duration own_interval(const Seat& seat) const;
  [[nodiscard]] bool quick(const Seat& seat) const;
  [[nodiscard]] Duration bucket_size() const;
  [[nodiscard]] Duration dear() const { return bucket_size() / 8; }

  EventLoop& loop_;
  CpuMeter meter_;
  Settings::Detect settings_;
  double budget_ = 0;         ///< CPU time per time, for all looking
  std::vector<Seat*> seats_;  ///< nullptr: left during the round in progress
  bool in_progress_ = false;

  Duration interval_{};
  Duration quick_interval_ = kQuickInterval;
  Duration full_interval_ = kMinFullInterval;
  std::size_t full_quota_ = 0;  ///< full looks that nothing calls for, still allowed in this round
  Duration extra_wall_{};       ///< in this round, for looks that were asked for in between
  Duration dear_wall_{};        ///< the part of it that dear looks took above dear()
  double extra_rate_ = 0;       ///< the part of the budget that fills the bucket
  Duration tokens_{};           ///< the bucket: CPU time; negative: in debt
  TimePoint refilled_;
  TimePoint dear_from_ = TimePoint::min();  ///< dear looks beside the round wait until then
  Duration total_{};
  Timer timer_;
};

/// A looker's place in the round; a member of the looker, which leaves by destroying it.
/// The first look follows in the loop's next turn; it counts as a sign of life.
class Pace::Seat {
 public:
  Seat(Pace& pace, Looker& looker);
  Seat(const Seat&) = delete;
  Seat& operator=(const Seat&) = delete;
  ~Seat();

  /// A sign of life: look soon (2, 4, 8 ... ms from now) and often for kQuickFor.
  void expedite();
  /// What has just gone may come back at once, as in a server that reloads: as expedite(), but in
  /// quick succession only for 250 ms.
  void expect_return();
  /// What the sign of life announced has come: looks often, but no more in quick succession.
  void slow_down();
  /// It looks by other means from now on.
  void forget_costs();
  /// Something has changed: look in full as soon as the budget allows.
  void look_soon();
  /// Whether work between the rounds may be done now; if not, look_soon() comes when it may.
  [[nodiscard]] bool affordable();
  /// Work done between the rounds, a wake-up included.
  void charge(Duration cpu) { pace_.spend(cpu + kWakeCost); }

 private:
  friend class Pace;
  void expedite_for(Duration first_looks);
  Pace& pace_;
  Looker& looker_;
  TimePoint last_ = TimePoint::min();  ///< look; min: none yet
  TimePoint last_full_ = TimePoint::min();
  TimePoint hurried_ = TimePoint::min();
  Duration first_looks_;  ///< after hurried_: in quick succession
  bool urgent_ = false;
  Duration cost_{};       ///< of a look, as it goes
  Duration full_cost_{};  ///< of one in full; zero: it never was necessary
  Duration sample_{-1};   ///< the look of the round in progress; negative: none
  bool sample_full_ = false;
};

}  // namespace portfwd
