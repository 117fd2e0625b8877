// The interface by which a forward port gets a connection to its target: a connected stream or
// datagram socket, depending on the dialer, now or later; or an error. NetnsDialer uses sockets
// that were created in the container's namespace, BridgeDialer the container's own addresses.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "net/address.h"

namespace portfwd {

/// The address of a listener, as bound in its namespace.
struct ListenAddress {
  Address address;
  bool v6only = false;  ///< an IPv6 wildcard that does not accept IPv4 clients
  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

/// The addresses to dial, in order, to reach a port that may have several listeners. A pure
/// function. First is what a local client of family `client` would reach inside: 127.0.0.1 or ::1,
/// then a wildcard (dialled at the loopback address), then other loopback addresses, then other
/// addresses. The other family follows in the same order. There are no duplicates. A wildcard that
/// is bound to an interface is dialled as a wildcard, since it is not reached at loopback.
[[nodiscard]] std::vector<Address> dial_order(Family client,
                                              std::span<const ListenAddress> listeners);

/// What a dialer connects to, and how.
struct DialOptions {
  Protocol protocol = Protocol::Tcp;
  SocketType type = SocketType::Stream;  ///< of a Unix socket
  bool refuse_fds = true;                ///< of a Unix socket: no descriptors can be sent to it
  std::optional<uid_t> peer_uid;         ///< whom a Unix server sees, in its user namespace;
                                         ///< nothing: the daemon's user there
  friend bool operator==(const DialOptions&, const DialOptions&) = default;
};

class DialHandler {
 public:
  /// Called at most once for each attempt, never from within dial().
  /// @param connected a non-blocking socket, owned by the callee; or the error of the last address
  /// that was tried: ECONNREFUSED, ETIMEDOUT, ...
  virtual void on_dialled(Result<UniqueFd> connected) = 0;

 protected:
  ~DialHandler() = default;
};

/// An attempt in progress. Its destruction cancels it; from within on_dialled() it must be retired
/// instead.
class Dial : public Retirable {};

/// The result of dial().
struct DialStart {
  UniqueFd connected;             ///< valid if the target has accepted within the call
  std::unique_ptr<Dial> attempt;  ///< null exactly when `connected` is valid
};

class Dialer {
 public:
  virtual ~Dialer() = default;

  /// Tries `candidates` in order until one accepts or `deadline` passes (ETIMEDOUT). A target on
  /// loopback usually accepts within the call.
  /// @param candidates nearest first, copied; @param handler borrowed until the Dial is gone
  [[nodiscard]] virtual DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                                       DialHandler& handler) = 0;
};

}  // namespace portfwd
