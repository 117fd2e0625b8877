// Logs turns of the loop that took long: everybody else had to wait so long. Owned by the loop.
#pragma once

#include <string_view>

#include "base/clock.h"

namespace portfwd {

class SlowTurns {
 public:
  static constexpr Duration kSlow = std::chrono::milliseconds(250);
  static constexpr Duration kBetweenLines = std::chrono::seconds(10);

  /// Notes the CPU time once a second, so that a line can say whether the turn computed or waited,
  /// for the kernel or for a processor. Called before each turn.
  void sample(TimePoint now);
  /// Writes a line, at most one in ten seconds; the next one says how many turns were left out.
  /// @param mostly what took longest of the turn @param mostly_took so long
  void report(TimePoint now, Duration took, std::string_view mostly, Duration mostly_took);

 private:
  TimePoint sampled_ = TimePoint::min();
  Duration cpu_{};  ///< at that time
  TimePoint told_ = TimePoint::min();
  unsigned left_out_ = 0;
};

}  // namespace portfwd
