// Targets inside a container as values: "8080", "53/udp", "unix:/run/app.sock", "unix:@name",
// "vsock:1024". The target of a forward never changes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "net/address.h"

namespace portfwd {

struct PortTarget {
  Protocol protocol = Protocol::Tcp;
  Port port = 0;
  friend constexpr auto operator<=>(const PortTarget&, const PortTarget&) = default;
};

struct VsockTarget {
  std::uint32_t port = 0;
  friend constexpr auto operator<=>(const VsockTarget&, const VsockTarget&) = default;
};

class Target : public std::variant<PortTarget, UnixPath, AbstractName, VsockTarget> {
 public:
  using variant::variant;
  Target() = default;  ///< port 0, which parse_target() rejects
  Target(Protocol protocol, Port port) : variant(PortTarget{protocol, port}) {}

  /// Null if it is of another kind.
  [[nodiscard]] const PortTarget* port() const { return std::get_if<PortTarget>(this); }
  /// Protocol of a host port that leads to this target: UDP for a UDP port, TCP for everything
  /// else.
  [[nodiscard]] Protocol protocol() const {
    return port() == nullptr ? Protocol::Tcp : port()->protocol;
  }
  /// The IP port; 0 if it is of another kind.
  [[nodiscard]] Port port_number() const { return port() == nullptr ? Port{0} : port()->port; }
  [[nodiscard]] std::string text() const;  ///< in the form that parse_target() accepts
};

/// @return nothing for any other text, such as an invalid port or path, blanks, or an unknown
/// protocol
[[nodiscard]] std::optional<Target> parse_target(std::string_view text);

}  // namespace portfwd
