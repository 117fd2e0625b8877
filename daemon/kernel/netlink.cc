#include "kernel/netlink.h"

#include <sys/socket.h>

#include <algorithm>

namespace portfwd::netlink {

namespace {

static_assert(NLMSG_HDRLEN == sizeof(nlmsghdr) && NLA_HDRLEN == sizeof(nlattr));

/// `length` rounded up to the alignment, but no further than `available`: the last message or
/// attribute may come without its padding.
std::size_t step(std::size_t length, std::size_t alignment, std::size_t available) {
  return std::min((length + alignment - 1) / alignment * alignment, available);
}

}  // namespace

std::optional<Message> Messages::next() {
  if (rest_.empty()) return std::nullopt;
  const auto header = copy_header<nlmsghdr>(rest_);
  if (!header || header->nlmsg_len < sizeof *header || header->nlmsg_len > rest_.size()) {
    malformed_ = true;
    rest_ = {};
    return std::nullopt;
  }
  const Bytes payload = rest_.first(header->nlmsg_len).subspan(sizeof *header);
  rest_ = rest_.subspan(step(header->nlmsg_len, NLMSG_ALIGNTO, rest_.size()));
  return Message{*header, payload};
}

std::optional<Attribute> Attributes::next() {
  const auto header = copy_header<nlattr>(rest_);
  if (!header || header->nla_len < sizeof *header || header->nla_len > rest_.size()) {
    rest_ = {};
    return std::nullopt;
  }
  const Bytes payload = rest_.first(header->nla_len).subspan(sizeof *header);
  rest_ = rest_.subspan(step(header->nla_len, NLA_ALIGNTO, rest_.size()));
  return Attribute{static_cast<std::uint16_t>(header->nla_type & NLA_TYPE_MASK), payload};
}

int status_of(const Message& message) {
  const auto code = copy_header<std::int32_t>(message.payload);
  if (!code || *code > 0 || *code < -4095) return EBADMSG;  // MAX_ERRNO
  return -*code;
}

std::span<std::byte> ReceiveBuffer::room() {
  return grown_.empty() ? std::span<std::byte>(inline_) : std::span<std::byte>(grown_);
}

Result<std::optional<Datagram>> ReceiveBuffer::receive(int fd) {
  for (int foreign = 0; foreign < kMostForeign;) {
    sockaddr_nl sender{};
    socklen_t sender_length = sizeof sender;
    const std::span<std::byte> into = room();
    const ssize_t n = ::recvfrom(fd, into.data(), into.size(), MSG_DONTWAIT | MSG_TRUNC,
                                 reinterpret_cast<sockaddr*>(&sender), &sender_length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return std::nullopt;
    if (n < 0) return fail("recvfrom(netlink)");
    if (sender.nl_family != AF_NETLINK || sender.nl_pid != 0) {
      ++foreign;
      continue;
    }
    const auto length = static_cast<std::size_t>(n);
    if (length <= into.size()) return Datagram{into.first(length), false};
    grown_.resize(length * 2);
    return Datagram{{}, true};
  }
  return std::nullopt;
}

Result<Message> Answers::next() {
  while (true) {
    while (const auto message = messages_.next()) {
      if (message->header.nlmsg_seq == sequence_) return *message;
    }
    damaged_ |= messages_.malformed();
    const auto datagram = buffer_.receive(fd_);
    if (!datagram) return std::unexpected(datagram.error());
    if (!*datagram) return fail("netlink answer", EBADMSG);
    damaged_ |= (*datagram)->truncated;
    messages_ = Messages((*datagram)->bytes);
  }
}

Result<UniqueFd> open(int protocol) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (!fd.valid()) return fail("socket(netlink)");
  return fd;
}

}  // namespace portfwd::netlink
