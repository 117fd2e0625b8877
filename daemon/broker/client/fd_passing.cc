#include "broker/client/fd_passing.h"

#include <sys/socket.h>

#include <array>
#include <cassert>
#include <cstring>

namespace portfwd {

namespace {

constexpr std::size_t kMostFds = 253;  // SCM_MAX_FD, net/scm.h
constexpr std::size_t kControlSize = CMSG_SPACE(kMostFds * sizeof(int));

void collect(const msghdr& header, std::vector<UniqueFd>& fds) {
  auto* mutable_header = const_cast<msghdr*>(&header);  // CMSG_NXTHDR only reads
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr;
       item = CMSG_NXTHDR(mutable_header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

}  // namespace

Result<void> send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds) {
  assert(fds.size() <= kMostFds);
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};  // sendmsg only reads
  alignas(cmsghdr) std::array<char, kControlSize> control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!fds.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(item), fds.data(), fds.size_bytes());
  }
  if (::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return fail("sendmsg");
  return {};
}

ReceivedMessage receive_with_fds(int socket, std::span<std::byte> buffer) {
  iovec part{buffer.data(), buffer.size()};
  alignas(cmsghdr) std::array<char, kControlSize> control;
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  ReceivedMessage got;
  const ssize_t size = ::recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return got;
  if (size <= 0) {
    got.outcome = ReceivedMessage::Outcome::End;
    return got;
  }
  collect(header, got.fds);
  got.outcome = ReceivedMessage::Outcome::Message;
  got.size = static_cast<std::size_t>(size);
  got.bytes_cut_off = (header.msg_flags & MSG_TRUNC) != 0;
  got.fds_cut_off = (header.msg_flags & MSG_CTRUNC) != 0;
  return got;
}

}  // namespace portfwd
