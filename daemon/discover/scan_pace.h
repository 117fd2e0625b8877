// When to look at /proc: as soon as there is reason to, but no oftener than the shortest gap and
// the CPU budget allow. The budget is credit that grows with time and is spent by measured cost, so
// a calm machine answers a burst at once and a busy one pays no more than its share. Pure; owned by
// Discovery.
//
// One half of the budget is for scans of all processes, the other for looks at single processes: a
// scan that was dear must not delay the look at a process whose pid a hint has named.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"

namespace portfwd {

class ScanPace {
 public:
  static constexpr Duration kGap = std::chrono::milliseconds(100);
  static constexpr Duration kHurriedGap = std::chrono::milliseconds(20);
  static constexpr Duration kHurry = std::chrono::seconds(1);  ///< how long a hint lasts
  static constexpr Duration kFull = std::chrono::seconds(5);   ///< between full looks
  static constexpr Duration kSaved = std::chrono::seconds(5);  ///< so long a budget is kept
  static constexpr Duration kWakeCost = std::chrono::microseconds(25);  ///< see Pace::kWakeCost
  static constexpr Duration kOwed = std::chrono::seconds(1);  ///< the longest wait for a budget
  /// The same for a look at what a hint has named: while programs start by the dozen they are
  /// looked at in lots. How many there may be is ExecHints' business.
  static constexpr Duration kLot = std::chrono::milliseconds(40);

  /// @param budget share of one core, such as 0.002; more than 0
  ScanPace(double budget, TimePoint now) : budget_(budget), last_(now - kFull), full_(last_) {
    credit_ = look_credit_ = share_of(kSaved);
    looked_ = now;
  }
  void set_budget(double budget) { budget_ = budget; }

  void want() { wanted_ = true; }
  /// A hint from outside /proc: what it announces may take some time to appear.
  void hurry(TimePoint now) {
    wanted_ = true;
    hurry_until_ = now + kHurry;
  }
  [[nodiscard]] bool hurrying(TimePoint now) const { return now < hurry_until_; }

  /// When the next look may be; that of the next full one while there is no reason for any.
  [[nodiscard]] TimePoint due(TimePoint now) const {
    return wanted_ ? std::min(last_ + gap(now), full_due()) : full_due();
  }
  [[nodiscard]] TimePoint full_due() const { return full_ + kFull; }
  /// Least time from the last look to the next.
  [[nodiscard]] Duration gap(TimePoint now) const {
    const Duration owed = time_to_earn(std::max(-credit_, Duration()));
    return std::max(hurrying(now) ? kHurriedGap : kGap, owed);
  }

  /// A scan begins: what is wanted from now on is wanted of the next one.
  void begin() { wanted_ = false; }
  /// @param cost CPU time that the look took
  void done(TimePoint now, Duration cost, bool full) {
    const Duration earned = credit_ + share_of(now - last_);
    credit_ = std::max(std::min(earned, share_of(kSaved)) - cost, -share_of(kOwed));
    last_ = now;
    if (full) full_ = now;
    ++scans_;
    spent_ += cost;
  }
  /// Looks at single processes. @param cost CPU time, the wake-up for it left out
  void charge(TimePoint now, Duration cost) {
    const Duration earned = look_credit_ + share_of(now - looked_);
    look_credit_ =
        std::max(std::min(earned, share_of(kSaved)) - cost - kWakeCost, -share_of(kOwed));
    looked_ = now;
    spent_ += cost + kWakeCost;
  }
  /// Work that a look has led to, such as to take in a container; the next scan waits for it.
  void charge_scans(Duration cost) {
    credit_ = std::max(credit_ - cost, -share_of(kOwed));
    spent_ += cost;
  }
  /// When those may be done that a hint has named; in the past when now.
  [[nodiscard]] TimePoint affordable_at() const {
    return std::min(has_look_credit_at(Duration()), looked_ + kLot);
  }
  /// When others may be done. @param hinted half of what can be saved is left to hints then, so
  /// that a build's hundreds of young processes do not put off the look at a new container
  [[nodiscard]] TimePoint spare_at(bool hinted) const {
    return has_look_credit_at(hinted ? share_of(kSaved) / 2 : Duration());
  }
  [[nodiscard]] Duration spent() const { return spent_; }
  [[nodiscard]] std::uint64_t scans() const { return scans_; }

 private:
  [[nodiscard]] Duration share_of(Duration time) const {
    return Duration(static_cast<Duration::rep>(static_cast<double>(time.count()) * budget_ / 2));
  }
  [[nodiscard]] Duration time_to_earn(Duration credit) const {
    return Duration(static_cast<Duration::rep>(static_cast<double>(credit.count()) / budget_ * 2));
  }

  [[nodiscard]] TimePoint has_look_credit_at(Duration level) const {
    if (look_credit_ >= level) return TimePoint::min();
    return looked_ + time_to_earn(level - look_credit_);
  }

  double budget_;
  TimePoint last_;
  TimePoint full_;
  TimePoint hurry_until_{};
  Duration credit_{};       ///< for scans
  Duration look_credit_{};  ///< for looks at single processes
  TimePoint looked_{};      ///< when look_credit_ was brought up to date
  Duration spent_{};
  std::uint64_t scans_ = 0;
  bool wanted_ = true;
};

}  // namespace portfwd
