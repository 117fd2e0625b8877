// Socket addresses of every kind as values: parse, print, compare, convert to and from the kernel's
// form. No socket is opened, no name is resolved and no path is followed here.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace portfwd {

using Port = std::uint16_t;  ///< host byte order

enum class Family : std::uint8_t { V4, V6 };
enum class Protocol : std::uint8_t { Tcp, Udp, Unix };
/// Type of a Unix socket that accepts connections. A SEQPACKET keeps the boundaries of records.
enum class SocketType : std::uint8_t { Stream, Seqpacket };

[[nodiscard]] constexpr std::string_view name_of(Protocol p) {
  constexpr std::array<std::string_view, 3> kNames{"tcp", "udp", "unix"};
  return kNames[static_cast<std::size_t>(p)];
}
[[nodiscard]] constexpr std::string_view name_of(SocketType t) {
  return t == SocketType::Stream ? "stream" : "seqpacket";
}
[[nodiscard]] constexpr int address_family(Family f) {
  return f == Family::V4 ? AF_INET : AF_INET6;
}

/// An IPv4 or IPv6 address. IPv4 uses the first four bytes, the others are zero.
class IpAddress {
 public:
  constexpr IpAddress() = default;  ///< 0.0.0.0
  [[nodiscard]] static constexpr IpAddress v4(std::uint8_t a, std::uint8_t b, std::uint8_t c,
                                              std::uint8_t d) {
    IpAddress r;
    r.bytes_[0] = a, r.bytes_[1] = b, r.bytes_[2] = c, r.bytes_[3] = d;
    return r;
  }
  [[nodiscard]] static constexpr IpAddress any(Family f) {
    IpAddress r;
    r.family_ = f;
    return r;
  }
  [[nodiscard]] static constexpr IpAddress loopback(Family f) {
    if (f == Family::V4) return v4(127, 0, 0, 1);
    IpAddress r = any(f);
    r.bytes_[15] = 1;
    return r;
  }
  /// @param network 4 (V4) or 16 (V6) bytes in network order, as netlink and sockaddr have them.
  [[nodiscard]] static IpAddress from_network(Family f, const void* network);
  /// Parses numeric forms only ("127.0.0.1", "::1", "[::1]"); an IPv4-mapped address becomes IPv4.
  [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text);

  [[nodiscard]] constexpr Family family() const { return family_; }
  [[nodiscard]] const std::uint8_t* data() const { return bytes_.data(); }
  [[nodiscard]] constexpr std::size_t size() const { return family_ == Family::V4 ? 4 : 16; }
  [[nodiscard]] constexpr bool is_any() const { return bytes_ == std::array<std::uint8_t, 16>{}; }
  /// 127.0.0.0/8 or ::1.
  [[nodiscard]] constexpr bool is_loopback() const {
    return family_ == Family::V4 ? bytes_[0] == 127 : *this == loopback(Family::V6);
  }
  /// 224.0.0.0/4 or ff00::/8: a group of hosts, which cannot be connected to.
  [[nodiscard]] constexpr bool is_multicast() const {
    return family_ == Family::V4 ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
  }
  [[nodiscard]] std::string text() const;  ///< "127.0.0.1", "::1"

  friend constexpr auto operator<=>(const IpAddress&, const IpAddress&) = default;

 private:
  Family family_ = Family::V4;
  std::array<std::uint8_t, 16> bytes_{};
};

struct Endpoint {
  IpAddress address;
  Port port = 0;
  /// Index of the network interface that the socket is bound to, as with every link-local address;
  /// 0: none. Not part of text() or SockAddr.
  std::uint32_t interface = 0;

  [[nodiscard]] std::string text() const;  ///< "127.0.0.1:80", "[::1]:80"
  friend constexpr auto operator<=>(const Endpoint&, const Endpoint&) = default;
};

/// A kernel socket address with its length, ready for bind() and connect().
struct SockAddr {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&storage);  // the type that the system calls take
  }
  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};
[[nodiscard]] SockAddr to_sockaddr(const Endpoint& endpoint);
/// @return nothing for a family other than AF_INET and AF_INET6, or a length that is too short
[[nodiscard]] std::optional<Endpoint> from_sockaddr(const SockAddr& address);

/// Parses 1 to 65535 in decimal, with nothing around it.
[[nodiscard]] std::optional<Port> parse_port(std::string_view text);

/// The path of a Unix socket, as the process that binds or connects sees it. Must not be empty.
struct UnixPath {
  std::string path;
  friend auto operator<=>(const UnixPath&, const UnixPath&) = default;
};

/// The name of a Unix socket in the abstract namespace of a network namespace, without the leading
/// NUL byte. May contain any bytes, NUL included. Must not be empty. Source: unix(7).
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

/// The longest UnixPath or AbstractName that fits in a sockaddr_un, in bytes.
inline constexpr std::size_t kLongestUnixName = 107;

class Address : public std::variant<Endpoint, UnixPath, AbstractName, VsockAddress> {
 public:
  using variant::variant;
  Address() = default;  ///< 0.0.0.0:0
  Address(const IpAddress& address, Port port) : variant(Endpoint{address, port}) {}

  /// Precondition: it is an Endpoint.
  [[nodiscard]] const Endpoint& ip() const;
  [[nodiscard]] Endpoint& ip();
  /// Null if it is of another kind.
  [[nodiscard]] const Endpoint* endpoint() const { return std::get_if<Endpoint>(this); }
  /// "127.0.0.1:80", "/run/app.sock", "@name", "vsock:3:1024"
  [[nodiscard]] std::string text() const;
  friend bool operator==(const Address& address, const Endpoint& endpoint) {
    const auto* own = std::get_if<Endpoint>(&address);
    return own != nullptr && *own == endpoint;
  }
};

/// @return nothing for a Unix path or name that is empty or longer than kLongestUnixName, and for a
/// path with a NUL byte
[[nodiscard]] std::optional<SockAddr> sockaddr_of(const Address& address);
/// @return nothing for another family, a length that is too short, or an unnamed Unix socket
[[nodiscard]] std::optional<Address> address_from(const SockAddr& address);

}  // namespace portfwd
