#include "net/target.h"

#include <linux/vm_sockets.h>
#include <sys/socket.h>

#include <cassert>
#include <charconv>

namespace portfwd {

namespace {

std::optional<Target> parse_port_target(std::string_view text) {
  PortTarget target;
  if (const auto slash = text.find('/'); slash != text.npos) {
    const std::string_view protocol = text.substr(slash + 1);
    if (protocol != "tcp" && protocol != "udp") return std::nullopt;
    if (protocol == "udp") target.protocol = Protocol::Udp;
    text = text.substr(0, slash);
  }
  const auto port = parse_port(text);
  if (!port) return std::nullopt;
  target.port = *port;
  return target;
}

std::optional<Target> parse_unix_target(std::string_view text) {
  const bool abstract = text.starts_with('@');
  if (abstract) text.remove_prefix(1);
  if (text.empty() || text.size() > kLongestUnixName) return std::nullopt;
  if (abstract) return AbstractName{std::string(text)};
  if (!text.starts_with('/') || text.find('\0') != text.npos) return std::nullopt;
  return UnixPath{std::string(text)};
}

std::optional<Target> parse_vsock_target(std::string_view text) {
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return VsockTarget{port};
}

struct AddressToTarget {
  Protocol protocol;
  Target operator()(const Endpoint& ip) const { return {protocol, ip.port}; }
  Target operator()(const UnixPath& at) const { return at; }
  Target operator()(const AbstractName& at) const { return at; }
  Target operator()(const VsockAddress& at) const { return VsockTarget{at.port}; }
};

struct TargetToAddress {
  IpAddress ip;
  Address operator()(const PortTarget& target) const { return {ip, target.port}; }
  Address operator()(const UnixPath& target) const { return target; }
  Address operator()(const AbstractName& target) const { return target; }
  Address operator()(const VsockTarget& target) const {
    return VsockAddress{VMADDR_CID_ANY, target.port};
  }
};

struct TargetToText {
  std::string operator()(const PortTarget& target) const {
    return std::to_string(target.port) + (target.protocol == Protocol::Udp ? "/udp" : "");
  }
  std::string operator()(const UnixPath& target) const { return "unix:" + target.path; }
  std::string operator()(const AbstractName& target) const { return "unix:@" + target.name; }
  std::string operator()(const VsockTarget& target) const {
    return "vsock:" + std::to_string(target.port);
  }
};

}  // namespace

Protocol Target::protocol() const {
  if (port() != nullptr) return port()->protocol;
  return std::holds_alternative<VsockTarget>(*this) ? Protocol::Tcp : Protocol::Unix;
}

namespace {

struct TargetToPath {
  std::string operator()(const UnixPath& target) const { return target.path; }
  std::string operator()(const AbstractName& target) const { return "@" + target.name; }
  std::string operator()(const auto&) const { return ""; }
};

}  // namespace

std::string Target::path() const {
  return std::visit(TargetToPath(), *this);
}

std::string Target::text() const {
  return std::visit(TargetToText(), *this);
}

std::optional<Target> parse_target(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  constexpr std::string_view kVsock = "vsock:";
  if (text.starts_with(kUnix)) return parse_unix_target(text.substr(kUnix.size()));
  if (text.starts_with(kVsock)) return parse_vsock_target(text.substr(kVsock.size()));
  return parse_port_target(text);
}

Target target_of(Protocol protocol, const Address& address) {
  assert((address.endpoint() != nullptr) == (protocol != Protocol::Unix));
  return std::visit(AddressToTarget{protocol}, address);
}

Address address_of(const Target& target, const IpAddress& ip) {
  return std::visit(TargetToAddress{ip}, target);
}

}  // namespace portfwd
