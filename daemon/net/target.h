// What a person names inside a container: "8080", "53/udp", "unix:/run/app.sock", "unix:@name",
// "vsock:1024". Also what a forward leads to, for life. A value.
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
  Target() = default;  ///< port 0, which no person can name
  Target(Protocol protocol, Port port) : variant(PortTarget{protocol, port}) {}

  /// Null if it is of another kind.
  [[nodiscard]] const PortTarget* port() const { return std::get_if<PortTarget>(this); }
  /// What a host port that leads there speaks: UDP for a UDP port, TCP for everything else.
  [[nodiscard]] Protocol protocol() const {
    return port() == nullptr ? Protocol::Tcp : port()->protocol;
  }
  /// Of an IP port, else 0.
  [[nodiscard]] Port port_number() const { return port() == nullptr ? Port{0} : port()->port; }
  [[nodiscard]] std::string text() const;  ///< as parse_target() takes it
};

/// @return nothing for anything else: a port or path that cannot be, blanks, unknown protocols
[[nodiscard]] std::optional<Target> parse_target(std::string_view text);

}  // namespace portfwd
