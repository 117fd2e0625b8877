// Where a socket is bound or connects to, of whatever kind. Values: they open no socket, resolve no
// name and follow no path. What a kind means is decided below this type's users: by those who make
// sockets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "net/endpoint.h"

namespace portfwd {

/// The path of a Unix socket, as the process that binds or connects sees it. Never empty.
struct UnixPath {
  std::string path;
  friend auto operator<=>(const UnixPath&, const UnixPath&) = default;
};

/// A Unix socket's name in the abstract namespace of a network namespace, without the leading NUL
/// byte. Any bytes, NUL included; never empty. Source: unix(7).
struct AbstractName {
  std::string name;
  friend auto operator<=>(const AbstractName&, const AbstractName&) = default;
};

/// Source: vsock(7).
struct VsockAddress {
  std::uint32_t cid = 0;
  std::uint32_t port = 0;
  friend auto operator<=>(const VsockAddress&, const VsockAddress&) = default;
};

/// The longest UnixPath or AbstractName that a sockaddr_un takes, in bytes.
inline constexpr std::size_t kLongestUnixName = 107;

class Address : public std::variant<Endpoint, UnixPath, AbstractName, VsockAddress> {
 public:
  using variant::variant;
  Address() = default;  ///< 0.0.0.0:0
  Address(const IpAddress& address, Port port) : variant(Endpoint{address, port}) {}

  /// Precondition: it is an IP address with a port.
  [[nodiscard]] const Endpoint& ip() const;
  [[nodiscard]] Endpoint& ip();
  /// "127.0.0.1:80", "/run/app.sock", "@name", "vsock:3:1024"
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Address& address, const Endpoint& endpoint) {
    const auto* own = std::get_if<Endpoint>(&address);
    return own != nullptr && *own == endpoint;
  }
};

/// @return nothing for a Unix path or name that is empty or longer than kLongestUnixName
[[nodiscard]] std::optional<SockAddr> sockaddr_of(const Address& address);
/// @return nothing for another family, for a length that is too short, and for an unnamed Unix
/// socket
[[nodiscard]] std::optional<Address> address_from(const SockAddr& address);

}  // namespace portfwd
