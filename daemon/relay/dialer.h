// The interface by which a forward port gets a connection to its target: a connected socket, of
// streams or of datagrams as the dialer is, now or later, or an error. Implemented per way into a
// container: with sockets made in its namespace, over a bridge address, by a helper.
#pragma once

#include <memory>
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
  bool v6only = false;  ///< an IPv6 wildcard that does not take IPv4 clients
  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

/// The addresses to dial, in order, to reach a port that may have several listeners. A pure
/// function. First comes what a local client of `client`'s family would have reached inside:
/// 127.0.0.1 or ::1, then a wildcard, by the loopback address of that family, then another loopback
/// address, then a specific one; after that the other family in the same order. Without duplicates.
/// A wildcard that is bound to an interface stays one: its loopback address would not lead there.
[[nodiscard]] std::vector<Address> dial_order(Family client,
                                              std::span<const ListenAddress> listeners);

class DialHandler {
 public:
  /// @param connected a non-blocking socket, owned by the callee; or the failure of the last
  /// address tried: ECONNREFUSED, ETIMEDOUT, ... Called at most once for each attempt, never from
  /// within dial().
  virtual void on_dialled(Result<UniqueFd> connected) = 0;

 protected:
  ~DialHandler() = default;
};

/// An attempt in progress. Destroying it cancels it; from within on_dialled() it must be retired
/// instead.
class Dial : public Retirable {};

/// The result of dial().
struct DialStart {
  UniqueFd connected;             ///< the outcome, where the target has accepted within the call
  std::unique_ptr<Dial> attempt;  ///< null exactly when `connected` is valid
};

class Dialer {
 public:
  virtual ~Dialer() = default;

  /// Tries `candidates` in order until one accepts or `deadline` passes (ETIMEDOUT). A target on
  /// loopback most often accepts within the call.
  /// @param candidates nearest first, copied; @param handler borrowed until the Dial is gone
  [[nodiscard]] virtual DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                                       DialHandler& handler) = 0;
};

}  // namespace portfwd
