// A port inside a container that is ours: sockets on its own loopback, made there, on which the
// daemon listens. The seam for reverse forwards; nothing above knows how the sockets come about.
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "relay/host_listener.h"

namespace portfwd {

class InsidePortHandler {
 public:
  /// @param sockets bound, not listening: 127.0.0.1, and ::1 where the container has it; or why the
  /// port can't be had: EADDRINUSE, EACCES, ... or what the broker failed with
  /// Called once, never from within ContainerAccess::listen_inside().
  virtual void on_inside_port(Result<std::vector<BoundSocket>> sockets) = 0;

 protected:
  ~InsidePortHandler() = default;
};

/// As long as it lives, what listens on these sockets is no listener of the container's. Destroying
/// it gives up a request under way. It dies before its ContainerAccess, and after the sockets.
class InsidePort {
 public:
  virtual ~InsidePort() = default;
};

/// One that is being asked for, or why no socket of ours can be made inside, remedy included.
using TakenPort = std::expected<std::unique_ptr<InsidePort>, std::string>;

}  // namespace portfwd
