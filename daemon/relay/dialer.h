// The seam through which a relay gets its far end: a connected socket, of streams or of datagrams
// as the dialer is, now or later, or why not. Sockets made in a namespace, a bridge address, later
// vsock or a guest's agent implement it; nothing above knows which one it has.
#pragma once

#include <memory>
#include <span>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "net/address.h"

namespace portfwd {

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
