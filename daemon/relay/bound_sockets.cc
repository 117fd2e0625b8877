#include "relay/bound_sockets.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cassert>

namespace portfwd {

namespace {

void switch_on(int fd, int level, int name) {
  const int on = 1;
  (void)::setsockopt(fd, level, name, &on, sizeof on);
}

Result<UniqueFd> open_bound(Protocol protocol, const Endpoint& endpoint) {
  const int family = address_family(endpoint.address.family());
  const int type = protocol == Protocol::Tcp ? SOCK_STREAM : SOCK_DGRAM;
  UniqueFd fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail("socket");
  if (family == AF_INET6) switch_on(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY);
  if (protocol == Protocol::Tcp) switch_on(fd.get(), SOL_SOCKET, SO_REUSEADDR);
  const SockAddr address = to_sockaddr(endpoint);
  if (::bind(fd.get(), address.get(), address.length) != 0) return fail("bind");
  return fd;
}

/// IPv6 is switched off or not compiled in; lo has no ::1.
bool host_lacks(const Endpoint& endpoint, const Error& error) {
  return endpoint.address.is_loopback() &&
         (error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT);
}

}  // namespace

std::expected<std::vector<BoundSocket>, BindFailure> bind_together(
    Protocol protocol, std::span<const Address> addresses) {
  BindFailure failure{};
  std::vector<BoundSocket> bound;
  assert(!addresses.empty());
  for (const Address& address : addresses) {
    auto socket = open_bound(protocol, address.ip());
    if (socket) {
      bound.push_back({address, std::move(*socket)});
      continue;
    }
    failure = {protocol, address, socket.error()};
    if (!host_lacks(address.ip(), socket.error())) return std::unexpected(failure);
  }
  if (bound.empty()) return std::unexpected(failure);
  return bound;
}

}  // namespace portfwd
