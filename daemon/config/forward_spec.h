// One forward that is wanted, whoever wants it: asked for on the bus, declared in the
// configuration, asked for by a container's own metadata, or kept from the daemon's last life. A
// value: the same one from the bus to the forward table to the state file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "net/target.h"

namespace portfwd {

enum class Direction : std::uint8_t { In, Reverse };

/// Direction::In: `target` inside is reached at `host_port`. Reverse: `target` is listened on
/// inside and leads to the host's loopback at `host_port`.
struct ForwardSpec {
  std::string container;  ///< its name, or what a person typed
  Target target;
  Direction direction = Direction::In;
  std::optional<Port> host_port;  ///< nothing: as for a detected one; with Reverse the target's own
  std::string bind;               ///< "" (as [host] has it), "localhost" or one address of the host
  std::string container_address;  ///< "" or the one address inside that is meant
  std::string label;
  bool persist = false;        ///< also in the daemon's next life
  bool allow_missing = false;  ///< the container may come later, and come back
  friend bool operator==(const ForwardSpec&, const ForwardSpec&) = default;
};

}  // namespace portfwd
