// The seam through which a relay gets its far end: a connected socket, of streams or of datagrams
// as the dialer is, now or later, or why not. Sockets made in a namespace, a bridge address, later
// vsock or a guest's agent implement it; nothing above knows which one it has.
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

// Which addresses to dial, and in what order, to reach a port that may have several listeners. A
// pure function; it opens nothing.
/// Where somebody listens, as bound there.
struct ListenAddress {
  Address address;
  bool v6only = false;  ///< an IPv6 wildcard that does not take IPv4 clients
  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

/// What a local client of `client`'s family would have reached inside comes first: 127.0.0.1 or
/// ::1, then a wildcard, by the loopback address of that family, then another loopback address,
/// then a specific one; after that the other family in the same order. Without duplicates.
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

/// An attempt under way; destroying it cancels it. From within its outcome it is retired instead.
class Dial : public Retirable {};

/// What dial() has achieved when it returns.
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
