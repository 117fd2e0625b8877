// Time that stands still until a test moves it. With it a loop's deadlines and pauses are reached
// at once; waits for descriptors still take real time.
#pragma once

#include "base/clock.h"

namespace portfwd::testing_support {

class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return now_; }
  [[nodiscard]] WallTime wall() const override {
    return WallTime(std::chrono::duration_cast<std::chrono::microseconds>(now_.time_since_epoch()));
  }
  void advance(Duration by) { now_ += by; }

 private:
  TimePoint now_{std::chrono::hours(1)};
};

}  // namespace portfwd::testing_support
