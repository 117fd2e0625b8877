// Time that stands still until a test moves it.
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
