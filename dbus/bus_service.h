// The daemon on the bus, as main sees it: connect, publish, and from then on mirror what the
// forward table tells. Owned by main, above the loop and below the table. No sd-bus here, so
// that whoever includes this needs none.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "api/control.h"
#include "base/error.h"
#include "event/event_loop.h"

namespace portfwd {

enum class BusKind { Session, System };

class BusService : public ControlObserver {
 public:
  virtual ~BusService() = default;

  /// Makes an object of everything that Control has, then asks for the name. What the observer is
  /// told before that is ignored, as publish() finds it.
  virtual Answer<void> publish() = 0;
};

/// Connects, and fails early when another daemon owns the name (AlreadyRunning). Borrows `loop` and
/// `control`.
/// @param lost called once, from the loop, when the bus has gone; the argument says why. It must
/// not
///   destroy the service: stop the loop, or retire it.
/// @return the service; its destruction takes everything off the bus.
[[nodiscard]] Answer<std::unique_ptr<BusService>> connect_bus(
    EventLoop& loop, Control& control, BusKind kind,
    std::move_only_function<void(const std::string& why)> lost);

}  // namespace portfwd
