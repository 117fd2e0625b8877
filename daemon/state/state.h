// What must outlive the daemon, as plain values, and its text: JSON with a version. The forward
// table is the owner of what is true; a State is a copy of it, made to be written and read once at
// start. It knows no files.
#pragma once

#include <expected>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/forward_spec.h"
#include "discover/opt_outs.h"
#include "net/target.h"

namespace portfwd {

/// The host port that a container's port had last.
struct StickyPort {
  std::string container;  ///< one of its lasting_names(), since its id does not outlive it
  Target target;
  Port host_port = 0;
  friend bool operator==(const StickyPort&, const StickyPort&) = default;
};

/// The loopback address that is a container's own.
struct ContainerAddress {
  std::string container;
  IpAddress address;
  friend bool operator==(const ContainerAddress&, const ContainerAddress&) = default;
};

/// Of ports and addresses, the one that was used longest ago comes first.
struct State {
  std::vector<StickyPort> ports;
  std::vector<ContainerAddress> addresses;
  std::vector<ForwardSpec> forwards;  ///< those with `persist`
  std::vector<OptOut> opt_outs;
  friend bool operator==(const State&, const State&) = default;
};

/// One line for each entry. Bytes in a name that are no UTF-8 become U+FFFD.
/// @param most bytes. What does not fit is left out: host ports that were used longest ago first,
/// then addresses, then forwards.
[[nodiscard]] std::string to_text(const State& state,
                                  std::size_t most = std::numeric_limits<std::size_t>::max());
/// Why a text is not one that to_text() made.
struct UnusableState {
  std::string text;    ///< the cause: cut off, edited, or of another version
  bool newer = false;  ///< a later portfwd has made it, to which it is not damaged
};
[[nodiscard]] std::expected<State, UnusableState> parse_state(std::string_view text);

}  // namespace portfwd
