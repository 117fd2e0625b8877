// The places on the host where forwards listen, by kind: ports (HostPorts) or paths (HostPaths).
// Part of the ForwardSet. A HostForward has the places of its kind for its life.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "forward/model.h"
#include "policy/policy.h"

namespace portfwd {

class HostForward;

class HostPlaces {
 public:
  enum class Outcome : std::uint8_t {
    Bound,
    Unfinished,  ///< in conflict until the search goes on: in the next turn
    Requested,   ///< in conflict until the place is made: ForwardSet::on_place_ready() follows
    Conflict,    ///< no place could be bound; the forward's reason says why
  };

  /// Searches a place for a forward and binds it. On failure the forward is in conflict.
  [[nodiscard]] virtual Outcome bind(HostForward& forward, TimePoint now) = 0;
  /// Must be called when a forward releases its place.
  virtual void release(const HostForward& forward) = 0;
  /// Whether the treatment requires another place than the forward has. A requested forward keeps
  /// its own, unless other machines can reach it and no longer may.
  [[nodiscard]] virtual bool misplaced(const HostForward& forward, const Treatment& treatment) = 0;
  /// Whether another place is remembered for a detected forward, and no forward has it now. This
  /// occurs when a container is found before its engine has reported its name.
  [[nodiscard]] virtual bool remembered_elsewhere(const HostForward& forward) const = 0;
  /// Remembers the place of a forward, under the lasting names of its container.
  virtual void remember(const HostForward& forward) = 0;
  /// Whether a declared forward is where its declaration wants it.
  [[nodiscard]] virtual bool at_home(const HostForward& forward, const ForwardSpec& spec) = 0;

 protected:
  ~HostPlaces() = default;
};

}  // namespace portfwd
