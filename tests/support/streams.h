// Connected stream sockets for tests, of every kind that a relay handles, and helpers to write, to
// read, and to distinguish a FIN from a reset. Everything is non-blocking. Relays are not known
// here.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "base/unique_fd.h"
#include "kernel/stream.h"
#include "net/address.h"

namespace portfwd::testing_support {

enum class StreamKind { Tcp4, Tcp6, Unix };

inline std::string name_of(StreamKind kind) {
  return kind == StreamKind::Tcp4 ? "Tcp4" : kind == StreamKind::Tcp6 ? "Tcp6" : "Unix";
}

using StreamPair = std::pair<UniqueFd, UniqueFd>;

inline UniqueFd new_socket(Family family, int type = SOCK_STREAM) {
  UniqueFd fd(::socket(address_family(family), type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  EXPECT_TRUE(fd.valid()) << std::strerror(errno);
  return fd;
}

/// Listens on a free port of the family's loopback address unless `at` names one.
inline UniqueFd listen_at(const Endpoint& at, int backlog = 16) {
  UniqueFd fd = new_socket(at.address.family());
  const SockAddr address = to_sockaddr(at);
  EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0) << std::strerror(errno);
  EXPECT_EQ(::listen(fd.get(), backlog), 0) << std::strerror(errno);
  return fd;
}
inline UniqueFd listen_on_loopback(Family family) {
  return listen_at({IpAddress::loopback(family), 0});
}

/// Begins to connect. @return 0, EINPROGRESS or another errno of connect(2)
inline int try_connect(const UniqueFd& fd, const Endpoint& to) {
  const SockAddr address = to_sockaddr(to);
  return ::connect(fd.get(), address.get(), address.length) == 0 ? 0 : errno;
}

/// Connects. On loopback the handshake is complete when the call returns.
inline UniqueFd connect_to_port(const Endpoint& to) {
  UniqueFd fd = new_socket(to.address.family());
  const int outcome = try_connect(fd, to);
  EXPECT_TRUE(outcome == 0 || outcome == EINPROGRESS) << std::strerror(outcome);
  return fd;
}

inline bool wait_for(int fd, short events, int timeout_ms = 10'000) {
  pollfd p{fd, events, 0};
  return ::poll(&p, 1, timeout_ms) == 1;
}

inline UniqueFd accept_from(const UniqueFd& listener) {
  EXPECT_TRUE(wait_for(listener.get(), POLLIN));
  UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  EXPECT_TRUE(fd.valid()) << std::strerror(errno);
  return fd;
}

inline StreamPair tcp_pair(Family family) {
  const UniqueFd listener = listen_on_loopback(family);
  UniqueFd client = connect_to_port(*local_endpoint(listener.get()));
  UniqueFd server = accept_from(listener);
  return {std::move(client), std::move(server)};
}

inline StreamPair stream_pair(StreamKind kind) {
  if (kind != StreamKind::Unix) {
    return tcp_pair(kind == StreamKind::Tcp4 ? Family::V4 : Family::V6);
  }
  std::array<int, 2> fds{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// Writes everything at once, which must fit into the socket.
inline void write_all(const UniqueFd& fd, std::string_view text) {
  EXPECT_EQ(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(text.size()))
      << std::strerror(errno);
}

/// How reading ended, or that it has not.
enum class Ending { None, Fin, Reset, Other };

inline std::ostream& operator<<(std::ostream& out, Ending e) {
  static constexpr std::array<const char*, 4> kNames{"none", "FIN", "RST", "another error"};
  return out << kNames[static_cast<std::size_t>(e)];
}

struct Received {
  std::string text;
  Ending ending = Ending::None;
};

/// Appends what is queued and records how reading ended.
inline void read_available(const UniqueFd& fd, Received& into) {
  std::array<char, 65536> buffer;
  while (into.ending == Ending::None) {
    const ssize_t n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
    if (n > 0) {
      into.text.append(buffer.data(), static_cast<std::size_t>(n));
    } else if (n == 0) {
      into.ending = Ending::Fin;
    } else if (errno == EAGAIN) {
      return;
    } else {
      into.ending = errno == ECONNRESET ? Ending::Reset : Ending::Other;
    }
  }
}

/// Closes the socket with a RST.
inline void reset(UniqueFd& fd) {
  reset_on_close(fd.get());
  fd.reset();
}

}  // namespace portfwd::testing_support
