// Messages with descriptors over Unix sockets, pairs of such sockets, and a descriptor whose
// close(2) waits. Everything is non-blocking. Relays are not known here.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "support/streams.h"

namespace portfwd::testing_support {

inline constexpr int kPassRights = 83;  // SO_PASSRIGHTS of Linux 6.16

/// @param type SOCK_STREAM or SOCK_SEQPACKET
inline StreamPair unix_pair(int type) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends.data()), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// Whether this kernel can refuse descriptors to the sender.
inline bool kernel_has_pass_rights() {
  const auto [one, other] = unix_pair(SOCK_STREAM);
  const int off = 0;
  return ::setsockopt(one.get(), SOL_SOCKET, kPassRights, &off, sizeof off) == 0;
}

/// @return as sendmsg(2)
inline ssize_t send_with(const UniqueFd& socket, std::string_view bytes, std::span<const int> fds) {
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  std::vector<std::byte> control(CMSG_SPACE(fds.size_bytes()));
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(item), fds.data(), fds.size_bytes());
  }
  return ::sendmsg(socket.get(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}
inline ssize_t send_with(const UniqueFd& socket, std::string_view bytes, const UniqueFd& fd) {
  const int number = fd.get();
  return send_with(socket, bytes, std::span(&number, 1));
}

struct UnixMessage {
  ssize_t size = -1;  ///< as recvmsg(2)
  int error = 0;      ///< errno, if size is -1
  std::string bytes;
  std::vector<UniqueFd> fds;
  int flags = 0;
};

/// @param most bytes
inline UnixMessage receive_message(const UniqueFd& socket, std::size_t most = 1 << 20) {
  UnixMessage got;
  got.bytes.resize(most);
  iovec part{got.bytes.data(), most};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(253 * sizeof(int))> control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  got.size = ::recvmsg(socket.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  got.error = got.size < 0 ? errno : 0;
  got.bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(got.size, 0)));
  got.flags = header.msg_flags;
  if (got.size < 0) return got;
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; i < (item->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
      got.fds.emplace_back(fd);
    }
  }
  return got;
}

/// A descriptor that tells which one it is: the read end of a pipe that contains `number`.
inline UniqueFd numbered_fd(int number) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0) << std::strerror(errno);
  const UniqueFd write_end(ends[1]);
  EXPECT_EQ(::write(write_end.get(), &number, sizeof number), ssize_t{sizeof number});
  return UniqueFd(ends[0]);
}
inline int number_in(const UniqueFd& fd) {
  int number = -1;
  EXPECT_EQ(::read(fd.get(), &number, sizeof number), ssize_t{sizeof number});
  return number;
}

/// A TCP connection whose close(2) waits: it lingers, and its peer reads nothing.
class LingeringSocket {
 public:
  /// @param seconds for which it waits
  explicit LingeringSocket(int seconds) {
    std::tie(socket_, peer_) = tcp_pair(Family::V4);
    const linger waits{.l_onoff = 1, .l_linger = seconds};
    EXPECT_EQ(::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &waits, sizeof waits), 0);
    static const std::string kChunk(65536, 'x');
    while (::send(socket_.get(), kChunk.data(), kChunk.size(), MSG_NOSIGNAL) > 0) {
    }
  }
  /// Sends it with one byte, which then holds it. Must be called once.
  void send_over(const UniqueFd& socket) {
    EXPECT_EQ(send_with(socket, "!", socket_), 1) << std::strerror(errno);
    socket_.reset();
  }

 private:
  UniqueFd socket_, peer_;
};

}  // namespace portfwd::testing_support
