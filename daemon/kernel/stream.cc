#include "kernel/stream.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace portfwd {

namespace {

/// @param n the return value of a read or write. EINTR: the level-triggered loop comes again.
Transfer outcome_of(ssize_t n) {
  using enum Transfer::Outcome;
  if (n > 0) return {Moved, static_cast<std::size_t>(n)};
  if (n == 0) return {End, 0};
  return {errno == EAGAIN || errno == EINTR ? WouldBlock : Failed, 0};
}

using NameCall = int (*)(int, sockaddr*, socklen_t*);

std::optional<Endpoint> endpoint_by(NameCall call, int fd) {
  SockAddr address;
  address.length = sizeof address.storage;
  if (call(fd, address.get(), &address.length) != 0) return std::nullopt;
  return from_sockaddr(address);
}

}  // namespace

Transfer receive_some(int fd, std::span<std::byte> into) {
  return outcome_of(::recv(fd, into.data(), into.size(), MSG_DONTWAIT));
}

Transfer send_some(int fd, std::span<const std::byte> from) {
  return outcome_of(::send(fd, from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

Transfer splice_some(int from, int to, std::size_t max) {
  return outcome_of(::splice(from, nullptr, to, nullptr, max, SPLICE_F_NONBLOCK | SPLICE_F_MOVE));
}

int take_socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

void reset_on_close(int fd) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

std::size_t unsent_bytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQNSD, &bytes) == 0 ? static_cast<std::size_t>(std::max(bytes, 0)) : 0;
}

void writable_when_all_is_sent(int fd) {
  const int low_water = 1;
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low_water, sizeof low_water);
}

std::optional<Endpoint> local_endpoint(int fd) {
  return endpoint_by(::getsockname, fd);
}
std::optional<Endpoint> peer_endpoint(int fd) {
  return endpoint_by(::getpeername, fd);
}

}  // namespace portfwd
