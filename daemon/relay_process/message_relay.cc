#include "relay_process/message_relay.h"

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

namespace portfwd::relay_process {

namespace {

msghdr header_of(iovec& part) {
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  return header;
}

/// The number of bytes that can be read before the first message with descriptors. The kernel ends
/// a read after such a message, but not before it, and does not say where it began. So a second
/// peek has a last byte that cannot be written: the kernel copies a message whole or not at all,
/// and so ends that peek before its last message. Test: UnixDescriptors.
/// @param into used for scratch @return 0: the next message has descriptors; the size of `into` if
/// nothing can be read now
std::size_t bytes_before_descriptors(int stream, std::span<std::byte> into) {
  iovec whole{into.data(), into.size()};
  msghdr header = header_of(whole);
  // Without a buffer for descriptors the kernel reports them by MSG_CTRUNC; it takes none.
  const ssize_t peeked = ::recvmsg(stream, &header, MSG_DONTWAIT | MSG_PEEK);
  if (peeked <= 0) return into.size();
  const auto all = static_cast<std::size_t>(peeked);
  if ((header.msg_flags & MSG_CTRUNC) == 0) return all;
  std::array<iovec, 2> parts{iovec{into.data(), all - 1}, iovec{nullptr, 1}};
  header = {};
  header.msg_iov = parts.data();
  header.msg_iovlen = parts.size();
  const ssize_t before = ::recvmsg(stream, &header, MSG_DONTWAIT | MSG_PEEK);
  assert(before < peeked);
  return before > 0 ? static_cast<std::size_t>(before) : 0;  // EFAULT: it is the first message
}

/// @return whether the message was received at all, as its timestamp shows, see start()
bool collect(msghdr& header, std::vector<UniqueFd>& fds) {
  bool stamped = false;
  for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
    if (item->cmsg_level != SOL_SOCKET) continue;
    stamped |= item->cmsg_type == SCM_TIMESTAMPNS;
    if (item->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return stamped;
}

/// @return as sendmsg(2)
ssize_t send_message(int socket, std::span<const std::byte> bytes,
                     const std::vector<UniqueFd>& fds) {
  iovec part{const_cast<std::byte*>(bytes.data()), bytes.size()};  // sendmsg only reads
  msghdr header = header_of(part);
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(kMostFds * sizeof(int))> control{};
  if (!fds.empty()) {
    assert(fds.size() <= kMostFds);
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    for (std::size_t i = 0; i < fds.size(); ++i) {
      const int fd = fds[i].get();
      std::memcpy(CMSG_DATA(item) + i * sizeof fd, &fd, sizeof fd);
    }
  }
  return ::sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool would_block() {
  return errno == EAGAIN || errno == EINTR;
}

/// The state after a send that failed for another reason than a full sink.
MessagePump::State state_after_failure() {
  const bool closed = errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN;
  return closed ? MessagePump::State::SinkBroken : MessagePump::State::Broken;
}

}  // namespace

MessagePump::State MessagePump::run(const Sockets& sockets) {
  std::size_t moved = 0;
  if (held_) {
    if (const State state = send_held(sockets); state != State::NeedsInput) return state;
  }
  while (moved < kBytesPerTurn) {
    assert(!held_);
    Message message;
    switch (receive(sockets, message)) {
      case Step::WouldBlock:
        return State::NeedsInput;
      case Step::End:
        return State::Finished;
      case Step::Failed:
        return State::Broken;
      case Step::Moved:
        break;
    }
    moved += std::max<std::size_t>(message.bytes.size(), 1);
    const State state = send_or_hold(sockets, std::move(message));
    if (state != State::NeedsInput) return state;
  }
  return State::NeedsInput;
}

MessagePump::Step MessagePump::receive(const Sockets& sockets, Message& message) {
  std::span<std::byte> into(sockets.buffer.bytes);
  if (!records_) {
    const std::size_t before = bytes_before_descriptors(sockets.source, into);
    if (before > 0) into = into.first(before);
  }
  iovec part{into.data(), into.size()};
  msghdr header = header_of(part);
  header.msg_control = sockets.buffer.control.data();
  header.msg_controllen = pass_fds_ ? sockets.buffer.control.size() : CMSG_SPACE(sizeof(timespec));
  const ssize_t size = ::recvmsg(sockets.source, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0) return would_block() ? Step::WouldBlock : Step::Failed;
  const bool stamped = collect(header, message.fds);
  const bool lost = (header.msg_flags & MSG_CTRUNC) != 0;
  if (!pass_fds_ && (lost || !message.fds.empty())) {
    refused_ = true;
    return Step::Failed;
  }
  if (lost || (header.msg_flags & MSG_TRUNC) != 0) return Step::Failed;
  if (size == 0 && !(records_ && stamped)) return Step::End;
  message.bytes = into.first(static_cast<std::size_t>(size));
  return Step::Moved;
}

MessagePump::State MessagePump::send_or_hold(const Sockets& sockets, Message message) {
  do {
    const ssize_t sent = send_message(sockets.sink, message.bytes, message.fds);
    if (sent < 0 && !would_block()) return state_after_failure();
    if (sent < 0) {
      held_.reset(
          new Held{{message.bytes.begin(), message.bytes.end()}, 0, std::move(message.fds)});
      return State::NeedsOutput;
    }
    message.fds.clear();  // they went with the first byte
    sockets.delivered += static_cast<std::uint64_t>(sent);
    message.bytes = message.bytes.subspan(static_cast<std::size_t>(sent));
  } while (!message.bytes.empty());
  return State::NeedsInput;
}

MessagePump::State MessagePump::send_held(const Sockets& sockets) {
  do {
    const auto rest = std::span(std::as_const(held_->bytes)).subspan(held_->sent);
    const ssize_t sent = send_message(sockets.sink, rest, held_->fds);
    if (sent < 0) return would_block() ? State::NeedsOutput : state_after_failure();
    held_->fds.clear();
    sockets.delivered += static_cast<std::uint64_t>(sent);
    held_->sent += static_cast<std::size_t>(sent);
  } while (held_->sent < held_->bytes.size());
  held_.reset();
  return State::NeedsInput;
}

namespace {

bool has_records(const UniqueFd& socket) {
  int type = 0;
  socklen_t length = sizeof type;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
         type == SOCK_SEQPACKET;
}

/// Makes the socket accept the largest record, and received messages carry a timestamp, which
/// distinguishes an empty record from the end. Source: unix_dgram_recvmsg in net/unix/af_unix.c;
/// test: UnixDescriptors.
void prepare_for_records(const UniqueFd& socket) {
  const int on = 1;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
  const int size = kLargestRecord;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

}  // namespace

MessageRelay::MessageRelay(EventLoop& loop, MessageBuffer& buffer, Counters& counters,
                           bool pass_fds, std::move_only_function<void()> on_over, UniqueFd client,
                           UniqueFd target)
    : buffer_(buffer),
      counters_(counters),
      on_over_(std::move(on_over)),
      records_(has_records(client)),
      client_(loop, std::move(client), *this, records_, pass_fds),
      target_(loop, std::move(target), *this, records_, pass_fds) {
  assert(client_.fd.valid() && target_.fd.valid());
}

Result<void> MessageRelay::start() {
  if (records_) {
    prepare_for_records(client_.fd);
    prepare_for_records(target_.fd);
  }
  advance(client_, target_);
  if (end_if_done()) return {};
  return watch_both();
}

void MessageRelay::abort() {
  for (End* end : {&client_, &target_}) {
    end->pump.drop();
    if (end->fd.valid()) end->source.close(end->fd);
  }
}

void MessageRelay::on_io(IoSource& source, std::uint32_t events) {
  constexpr std::uint32_t kHangUp = EPOLLHUP | EPOLLERR;  // reported even if not requested
  End& end = &source == &client_.source ? client_ : target_;
  End& other = &end == &client_ ? target_ : client_;
  if (end.state == State::NeedsInput && (events & (EPOLLIN | kHangUp)) != 0) advance(end, other);
  if (other.state == State::NeedsOutput && (events & (EPOLLOUT | kHangUp)) != 0) {
    advance(other, end);
  }
  if (end_if_done() || watch_both()) return;
  abort();
  on_over_();
}

/// Runs one pump and acts on its state. If the sink is closed, the source's peer must see that it
/// can send no more, and what the sink's peer sent before is still delivered.
void MessageRelay::advance(End& from, End& to) {
  std::uint64_t& delivered = &to == &target_ ? counters_.bytes_in : counters_.bytes_out;
  from.state = from.pump.run({buffer_, from.fd.get(), to.fd.get(), delivered});
  if (from.state == State::Finished) ::shutdown(to.fd.get(), SHUT_WR);
  if (from.state == State::SinkBroken) {
    from.pump.drop();
    from.state = State::Finished;
    ::shutdown(from.fd.get(), SHUT_RD);
  }
}

/// @return whether the relay is over
bool MessageRelay::end_if_done() {
  const bool broken = client_.state == State::Broken || target_.state == State::Broken;
  const bool finished = client_.state == State::Finished && target_.state == State::Finished;
  if (!broken && !finished) return false;
  abort();
  on_over_();
  return true;
}

Result<void> MessageRelay::watch_both() {
  if (auto armed = client_.source.watch(interest(client_, target_)); !armed) return armed;
  return target_.source.watch(interest(target_, client_));
}

std::uint32_t MessageRelay::interest(const End& end, const End& other) {
  std::uint32_t events = 0;
  if (end.state == State::NeedsInput) events |= EPOLLIN;
  if (other.state == State::NeedsOutput) events |= EPOLLOUT;
  return events;
}

}  // namespace portfwd::relay_process
