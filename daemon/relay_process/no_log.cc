// What the event loop needs of the daemon's log. portfwd-relay has none: its standard error is
// closed, it reports to the daemon, and formatting would add to its resident memory.
#include "base/log.h"
#include "event/event_loop.h"

namespace portfwd {

bool log::flush() {
  return true;
}

void SlowTurns::sample(TimePoint) {}

void SlowTurns::report(TimePoint, Duration, const LoopStep&) {}

}  // namespace portfwd
