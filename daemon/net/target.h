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
  /// Protocol of the listeners that it names. A vsock target counts as TCP: both are streams, and
  /// nothing forwards the former yet.
  [[nodiscard]] Protocol protocol() const;
  /// Protocol of a host port that leads to this target: UDP for a UDP port, TCP for everything
  /// else.
  [[nodiscard]] Protocol host_port_protocol() const {
    return protocol() == Protocol::Udp ? Protocol::Udp : Protocol::Tcp;
  }
  /// The path of a Unix socket, or "@NAME" for an abstract name; "" if it is of another kind.
  [[nodiscard]] std::string path() const;
  /// The IP port; 0 if it is of another kind.
  [[nodiscard]] Port port_number() const { return port() == nullptr ? Port{0} : port()->port; }
  [[nodiscard]] std::string text() const;  ///< in the form that parse_target() accepts
};

/// @return nothing for any other text, such as an invalid port or path, blanks, or an unknown
/// protocol
[[nodiscard]] std::optional<Target> parse_target(std::string_view text);

/// The target that a listener with this protocol and address is known by: for an IP address, the
/// protocol and the port.
[[nodiscard]] Target target_of(Protocol protocol, const Address& address);

/// The address of a listener that has this target. @param ip its IP address, if it is a port
[[nodiscard]] Address address_of(const Target& target, const IpAddress& ip);

}  // namespace portfwd
