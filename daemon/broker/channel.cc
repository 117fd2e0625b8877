
#include "broker/channel.h"

#include <sys/socket.h>

#include <cstring>

namespace portfwd::broker {

namespace {

/// Result of recvmsg(), not checked yet.
struct Raw {
  ssize_t size = 0;
  bool whole = false;  ///< neither the message nor its descriptors were cut off
};

/// Receives a message and at most one descriptor: the kernel drops others and sets MSG_CTRUNC.
/// Source: unix(7), "MSG_CTRUNC"; fact: UnixSocket.SurplusDescriptorsAreDroppedByTheKernel.
Raw receive(int socket, Message& message) {
  iovec part{&message.request, sizeof message.request};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = CMSG_LEN(sizeof(int));
  Raw raw;
  do {
    raw.size = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  } while (raw.size < 0 && errno == EINTR);
  if (raw.size < 0) return raw;
  raw.whole = (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0;
  const cmsghdr* item = CMSG_FIRSTHDR(&header);
  if (item != nullptr && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS &&
      item->cmsg_len == CMSG_LEN(sizeof(int))) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(item), sizeof fd);
    message.passed = UniqueFd(fd);
  }
  return raw;
}

constexpr Outcome kInvalidRequest{EINVAL, Step::Request};

bool path_is_sound(const Request& r) {
  return r.path[0] == '/' && ::memchr(r.path, '\0', sizeof r.path) != nullptr;
}

bool unix_is_sound(const Request& r, bool passed) {
  if (r.op < Op::UnixConnect) return true;
  const bool typed = r.type == SOCK_STREAM || r.type == SOCK_SEQPACKET;
  if (r.op != Op::UnixRemove && !typed) return false;
  if (r.flags > kAllFlags || r.bound.parents > kMostParents) return false;
  if (r.op == Op::UnixListen && r.mode > 0777) return false;
  if (r.name_size == 0) return passed && path_is_sound(r);
  return r.op != Op::UnixRemove && r.name_size <= kLongestName &&
         (r.flags & (kReplace | kMakeParents)) == 0;
}

}  // namespace

Outcome check(const Request& r, bool passed) {
  if (r.version != kVersion) return {EPROTONOSUPPORT, Step::Request};
  if (r.id == 0 || r.op < Op::Join || r.op > kLastOp) return kInvalidRequest;
  if (r.op == Op::Join && r.home > kLastHome) return kInvalidRequest;
  if (r.op == Op::Sockets && (r.count == 0 || r.count > kMaxCount)) return kInvalidRequest;
  if (r.op == Op::Listen && (r.port > 65535 || r.v6only > 1)) return kInvalidRequest;
  if (!unix_is_sound(r, passed)) return kInvalidRequest;
  return {};
}

bool Channel::next(Message& message) const {
  for (;;) {
    message = {};
    const Raw raw = receive(socket_, message);
    if (raw.size < 0) return false;
    const Request& request = message.request;
    const bool sized = raw.size == sizeof request;
    const Outcome sound =
        raw.whole && sized ? check(request, message.passed.valid()) : kInvalidRequest;
    if (sound.ok()) return true;
    // Zero bytes are an empty message, or the daemon has closed its end. In the latter case the
    // reply cannot be sent. Fact: UnixSocket.AnEmptyMessageIsReadLikeTheEndButCanBeAnswered.
    if (!refuse(sized ? request.id : 0, sound)) return false;
  }
}

bool Channel::answer(std::uint32_t id, Outcome outcome, const FdBatch& made,
                     const FileReport& file) const {
  const bool carries = outcome.ok() && made.size() > 0;
  Reply reply;
  reply.id = id;
  reply.error = outcome.error;
  reply.step = outcome.step;
  reply.count = carries ? static_cast<std::uint32_t>(made.size()) : 0;
  reply.found = file.found;
  reply.bound = file.bound;
  iovec part{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxCount)];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (carries) {
    std::memset(control, 0, sizeof control);
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * made.size());
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(sizeof(int) * made.size());
    std::memcpy(CMSG_DATA(item), made.data(), sizeof(int) * made.size());
  }
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_, &header, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return true;
  // The kernel may reject the descriptors (ETOOMANYREFS) and still accept a reply without them.
  return carries && refuse(id, failed(Step::Socket));
}

bool Channel::refuse(std::uint32_t id, Outcome outcome) const {
  return answer(id, outcome, FdBatch());
}

}  // namespace portfwd::broker
