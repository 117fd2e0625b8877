// UDP sockets for tests: bound, connected, sending and receiving one datagram at a time. Everything
// is non-blocking. Relays are not known here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "support/streams.h"

namespace portfwd::testing_support {

/// Binds to a free port unless `at` names one.
inline UniqueFd bind_datagrams(const Endpoint& at) {
  UniqueFd fd = new_socket(at.address.family(), SOCK_DGRAM);
  const SockAddr address = to_sockaddr(at);
  EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0) << std::strerror(errno);
  return fd;
}

inline UniqueFd datagrams_to(const Endpoint& to) {
  UniqueFd fd = new_socket(to.address.family(), SOCK_DGRAM);
  EXPECT_EQ(try_connect(fd, to), 0);
  return fd;
}

/// @return errno or 0
inline int send_one(const UniqueFd& fd, std::string_view text) {
  return ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0 ? errno : 0;
}
inline int send_one_to(const UniqueFd& fd, std::string_view text, const Endpoint& to) {
  const SockAddr address = to_sockaddr(to);
  const auto sent =
      ::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL, address.get(), address.length);
  return sent < 0 ? errno : 0;
}

struct OneDatagram {
  std::string text;
  Endpoint from;
  int error = 0;  ///< errno; EAGAIN: no datagram is queued
};
inline OneDatagram take_one(const UniqueFd& fd) {
  std::string text(65'536, '\0');
  SockAddr from;
  from.length = sizeof from.storage;
  const ssize_t got = ::recvfrom(fd.get(), text.data(), text.size(), 0, from.get(), &from.length);
  if (got < 0) return {"", {}, errno};
  text.resize(static_cast<std::size_t>(got));
  return {std::move(text), from_sockaddr(from).value_or(Endpoint{}), 0};
}

}  // namespace portfwd::testing_support
