#include "net/address.h"

#include <linux/vm_sockets.h>
#include <sys/un.h>

#include <cassert>
#include <cstring>
#include <string_view>

namespace portfwd {

namespace {

static_assert(kLongestUnixName == sizeof(sockaddr_un::sun_path) - 1);

/// @param name with the leading NUL byte of an abstract one @param end bytes after the name that
/// count
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
