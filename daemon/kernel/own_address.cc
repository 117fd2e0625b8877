#include "kernel/own_address.h"

#include <sys/socket.h>

#include <cerrno>

#include "base/unique_fd.h"

namespace portfwd {

bool may_be_own_address(const IpAddress& address) {
  if (address.is_loopback()) return true;
  const UniqueFd probe(
      ::socket(address_family(address.family()), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const SockAddr there = to_sockaddr({address, 0});
  if (!probe.valid() || ::bind(probe.get(), there.get(), there.length) == 0) return true;
  return errno != EADDRNOTAVAIL;
}

}  // namespace portfwd
