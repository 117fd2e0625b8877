// Source of a dialer's unconnected sockets, one per connection: made ahead in a container's network
// namespace, or on the host. They are ready to be connected and relayed: non-blocking, and those of
// TCP tuned as RelayContext::tune() does it. It knows nothing of addresses.
#pragma once

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/endpoint.h"

namespace portfwd {

class SocketTaker {
 public:
  /// @param socket unconnected, non-blocking, tuned; or why there is none. Called at most once for
  /// an await(), never from within it. It may await() again, and must not destroy the source.
  virtual void on_socket(Result<UniqueFd> socket) = 0;

 protected:
  ~SocketTaker() = default;
};

class SocketSource {
 public:
  /// @return invalid when there is none at hand: then await() one
  [[nodiscard]] virtual UniqueFd take(Family family) = 0;
  /// Takers are served in order. @param taker borrowed until called or withdrawn
  virtual void await(Family family, SocketTaker& taker) = 0;
  /// Harmless for one that does not wait.
  virtual void withdraw(SocketTaker& taker) noexcept = 0;

 protected:
  ~SocketSource() = default;
};

}  // namespace portfwd
