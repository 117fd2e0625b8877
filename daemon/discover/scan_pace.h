// When to look at /proc: as soon as there is reason to, but no oftener than the CPU budget and the
// shortest gap allow, by the measured cost of the looks before. Pure; owned by Discovery.
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

  /// @param budget share of one core, such as 0.002
  explicit ScanPace(double budget) : budget_(budget) {}
  void set_budget(double budget) { budget_ = budget; }

  void want() { wanted_ = true; }
  /// A hint from outside /proc: what it announces may take some time to appear.
  void hurry(TimePoint now) {
    wanted_ = true;
    hurry_until_ = now + kHurry;
  }
  [[nodiscard]] bool hurrying(TimePoint now) const { return now < hurry_until_; }

  /// When the next look may be; TimePoint::max() while there is no reason for one.
  [[nodiscard]] TimePoint due(TimePoint now) const {
    const TimePoint wanted = wanted_ ? last_ + gap(now) : TimePoint::max();
    return std::min(wanted, full_due());
  }
  [[nodiscard]] TimePoint full_due() const { return last_full_ + kFull; }
  [[nodiscard]] Duration gap(TimePoint now) const {
    const Duration least = hurrying(now) ? kHurriedGap : kGap;
    const auto paid = static_cast<double>(mean_cost_.count()) / budget_;
    const auto most = static_cast<double>(kFull.count());
    return std::max(least, Duration(static_cast<Duration::rep>(std::min(paid, most))));
  }

  /// @param cost CPU time that the look took
  void done(TimePoint now, Duration cost, bool full) {
    wanted_ = false;
    last_ = now;
    if (full) last_full_ = now;
    mean_cost_ = scans_++ == 0 ? cost : (mean_cost_ * 7 + cost) / 8;
    spent_ += cost;
  }
  [[nodiscard]] Duration mean_cost() const { return mean_cost_; }
  [[nodiscard]] Duration spent() const { return spent_; }
  [[nodiscard]] std::uint64_t scans() const { return scans_; }

 private:
  double budget_;
  bool wanted_ = true;
  TimePoint last_ = TimePoint() - kFull;
  TimePoint last_full_ = TimePoint() - kFull;
  TimePoint hurry_until_ = TimePoint();
  Duration mean_cost_{};
  Duration spent_{};
  std::uint64_t scans_ = 0;
};

}  // namespace portfwd
