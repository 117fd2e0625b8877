#include "net/address.h"

#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <sys/un.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cstring>
#include <string_view>

namespace portfwd {

namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_mapped(const std::array<std::uint8_t, 16>& bytes) {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
}

}  // namespace

IpAddress IpAddress::from_network(Family f, const void* network) {
  IpAddress r;
  r.family_ = f;
  std::memcpy(r.bytes_.data(), network, r.size());
  if (f == Family::V6 && is_mapped(r.bytes_)) {
    return v4(r.bytes_[12], r.bytes_[13], r.bytes_[14], r.bytes_[15]);
  }
  return r;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  const std::string terminated(text);
  std::array<std::uint8_t, 16> network{};
  if (::inet_pton(AF_INET, terminated.c_str(), network.data()) == 1) {
    return from_network(Family::V4, network.data());
  }
  if (::inet_pton(AF_INET6, terminated.c_str(), network.data()) == 1) {
    return from_network(Family::V6, network.data());
  }
  return std::nullopt;
}

std::string IpAddress::text() const {
  std::array<char, INET6_ADDRSTRLEN> out{};
  ::inet_ntop(address_family(family_), bytes_.data(), out.data(), out.size());
  return out.data();
}

std::string Endpoint::text() const {
  const std::string host = address.text();
  const bool v6 = address.family() == Family::V6;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

SockAddr to_sockaddr(const Endpoint& endpoint) {
  SockAddr out;
  if (endpoint.address.family() == Family::V4) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.address.data(), 4);
    std::memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(endpoint.port);
    std::memcpy(&in.sin6_addr, endpoint.address.data(), 16);
    std::memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  }
  return out;
}

std::optional<Endpoint> from_sockaddr(const SockAddr& address) {
  if (address.storage.ss_family == AF_INET && address.length >= sizeof(sockaddr_in)) {
    sockaddr_in in{};
    std::memcpy(&in, &address.storage, sizeof in);
    return Endpoint{IpAddress::from_network(Family::V4, &in.sin_addr), ntohs(in.sin_port)};
  }
  if (address.storage.ss_family == AF_INET6 && address.length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address.storage, sizeof in);
    return Endpoint{IpAddress::from_network(Family::V6, &in.sin6_addr), ntohs(in.sin6_port)};
  }
  return std::nullopt;
}

std::optional<Port> parse_port(std::string_view text) {
  Port port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

namespace {

static_assert(kLongestUnixName == sizeof(sockaddr_un::sun_path) - 1);

/// @param name with the leading NUL byte if abstract @param end bytes after the name that count
/// towards the length
std::optional<SockAddr> unix_sockaddr(std::string_view name, std::size_t end) {
  if (name.size() + end > sizeof(sockaddr_un::sun_path)) return std::nullopt;
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  std::memcpy(un.sun_path, name.data(), name.size());
  SockAddr out;
  std::memcpy(&out.storage, &un, sizeof un);
  out.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + end);
  return out;
}

struct ToSockaddr {
  std::optional<SockAddr> operator()(const Endpoint& ip) const { return to_sockaddr(ip); }
  std::optional<SockAddr> operator()(const UnixPath& at) const {
    if (at.path.empty() || at.path.find('\0') != at.path.npos) return std::nullopt;
    return unix_sockaddr(at.path, 1);
  }
  std::optional<SockAddr> operator()(const AbstractName& at) const {
    if (at.name.empty()) return std::nullopt;
    return unix_sockaddr(std::string(1, '\0') + at.name, 0);
  }
  std::optional<SockAddr> operator()(const VsockAddress& at) const {
    sockaddr_vm vm{};
    vm.svm_family = AF_VSOCK;
    vm.svm_cid = at.cid;
    vm.svm_port = at.port;
    SockAddr out;
    std::memcpy(&out.storage, &vm, sizeof vm);
    out.length = sizeof vm;
    return out;
  }
};

struct ToText {
  std::string operator()(const Endpoint& ip) const { return ip.text(); }
  std::string operator()(const UnixPath& at) const { return at.path; }
  std::string operator()(const AbstractName& at) const { return "@" + at.name; }
  std::string operator()(const VsockAddress& at) const {
    return "vsock:" + std::to_string(at.cid) + ":" + std::to_string(at.port);
  }
};

std::optional<Address> unix_address(const SockAddr& address) {
  const std::size_t before = offsetof(sockaddr_un, sun_path);
  if (address.length <= before || address.length > sizeof(sockaddr_un)) return std::nullopt;
  sockaddr_un un{};
  std::memcpy(&un, &address.storage, address.length);
  const std::string_view name(un.sun_path, address.length - before);
  if (name.front() != '\0') return UnixPath{std::string(name.substr(0, name.find('\0')))};
  if (name.size() == 1) return std::nullopt;
  return AbstractName{std::string(name.substr(1))};
}

}  // namespace

const Endpoint& Address::ip() const {
  assert(std::holds_alternative<Endpoint>(*this));
  return *std::get_if<Endpoint>(this);
}

Endpoint& Address::ip() {
  assert(std::holds_alternative<Endpoint>(*this));
  return *std::get_if<Endpoint>(this);
}

std::string Address::text() const {
  return std::visit(ToText(), *this);
}

std::optional<SockAddr> sockaddr_of(const Address& address) {
  return std::visit(ToSockaddr(), address);
}

std::optional<Address> address_from(const SockAddr& address) {
  if (address.storage.ss_family == AF_UNIX) return unix_address(address);
  if (address.storage.ss_family == AF_VSOCK) {
    if (address.length < sizeof(sockaddr_vm)) return std::nullopt;
    sockaddr_vm vm{};
    std::memcpy(&vm, &address.storage, sizeof vm);
    return VsockAddress{vm.svm_cid, vm.svm_port};
  }
  if (const auto ip = from_sockaddr(address)) return *ip;
  return std::nullopt;
}

}  // namespace portfwd
