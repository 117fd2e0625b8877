#include "kernel/destroy_events.h"

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cstddef>

#include "kernel/sock_diag.h"

namespace portfwd {

namespace {

/// About 50 messages. When more are queued at once, a dump is cheaper than reading them.
constexpr int kReceiveBuffer = 32 * 1024;

constexpr std::uint32_t kIdOffset = NLMSG_HDRLEN + offsetof(inet_diag_msg, id);
constexpr std::uint32_t kOwnPort = kIdOffset + offsetof(inet_diag_sockid, idiag_sport);
constexpr std::uint32_t kPeerPort = kIdOffset + offsetof(inet_diag_sockid, idiag_dport);
constexpr std::uint32_t kPassWhole = ~0U;
/// Less than any whole message has, since attributes follow.
constexpr std::uint32_t kSampleBytes = NLMSG_HDRLEN + sizeof(inet_diag_msg);

sock_filter load_port(std::uint32_t offset) {  // converts from network order
  return BPF_STMT(BPF_LD | BPF_H | BPF_ABS, offset);
}
sock_filter jump_if(std::uint32_t value, std::size_t if_equal, std::size_t if_not) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, static_cast<std::uint8_t>(if_equal),
                  static_cast<std::uint8_t>(if_not));
}
sock_filter pass(std::uint32_t bytes) {
  return BPF_STMT(BPF_RET | BPF_K, bytes);
}

}  // namespace

std::vector<sock_filter> destroy_filter(std::span<const Port> ports) {
  std::vector<sock_filter> program{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, std::uint32_t(SKF_AD_OFF + SKF_AD_RANDOM)),
      BPF_STMT(BPF_ALU | BPF_AND | BPF_K, kSampled - 1),
      jump_if(0, 0, 1),
      pass(kSampleBytes),
      load_port(kPeerPort),
      jump_if(0, 1, 0),
      pass(0)};
  if (ports.size() > kMaxFilteredPorts) {
    program.push_back(pass(kPassWhole));
    return program;
  }
  program.push_back(load_port(kOwnPort));
  for (std::size_t i = 0; i < ports.size(); ++i) {
    program.push_back(jump_if(ports[i], ports.size() - i, 0));
  }
  program.push_back(pass(0));
  program.push_back(pass(kPassWhole));
  return program;
}

/// Binds the socket, since multicast silently skips sockets without an address of their own.
/// Test: DestroyFacts.AnUnboundSocketReceivesNothing
DestroyEvents::DestroyEvents(UniqueFd socket) : socket_(std::move(socket)) {
  sockaddr_nl any{};
  any.nl_family = AF_NETLINK;
  (void)::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof kReceiveBuffer);
}

Result<void> DestroyEvents::filter(std::span<const Port> ports) {
  std::vector<sock_filter> program = destroy_filter(ports);
  assert(!program.empty() && program.size() <= BPF_MAXINSNS);
  const sock_fprog attached{static_cast<unsigned short>(program.size()), program.data()};
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &attached, sizeof attached) != 0) {
    return fail("SO_ATTACH_FILTER");
  }
  ports_.assign(ports.begin(), ports.end());
  std::ranges::sort(ports_);
  return {};
}

bool DestroyEvents::passes(Port port) const {
  return ports_.size() > kMaxFilteredPorts || std::ranges::binary_search(ports_, port);
}

Result<void> DestroyEvents::change_groups(int option, bool udp) {
  static constexpr std::array kGroups{SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET6_TCP_DESTROY,
                                      SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_UDP_DESTROY};
  for (const int group : std::span(kGroups).first(udp ? 4 : 2)) {
    if (::setsockopt(socket_.get(), SOL_NETLINK, option, &group, sizeof group) != 0) {
      return fail("SKNLGRP_INET_DESTROY");
    }
  }
  return {};
}

Result<void> DestroyEvents::join(bool udp) {
  auto result = change_groups(NETLINK_ADD_MEMBERSHIP, udp);
  joined_ = result.has_value();
  return result;
}

void DestroyEvents::leave() {
  (void)change_groups(NETLINK_DROP_MEMBERSHIP,
                      true);  // can fail only for a group that does not exist
  joined_ = false;
}

/// A sample may be of any socket.
void DestroyEvents::add_closed_socket(netlink::Bytes payload, Batch& batch) const {
  const auto gone = parse_diag_socket(payload);
  if (gone && gone->remote.port == 0 && passes(gone->local.port)) {
    batch.cookies.push_back(gone->cookie);
  }
}

/// A sample is truncated where the attributes of its message begin.
void DestroyEvents::read_event(netlink::Bytes bytes, Batch& batch) const {
  if (bytes.size() == kSampleBytes) {
    batch.closes += kSampled;
    return add_closed_socket(bytes.subspan(NLMSG_HDRLEN), batch);
  }
  netlink::Messages messages(bytes);
  while (const auto message = messages.next()) {
    if (message->header.nlmsg_type != SOCK_DIAG_BY_FAMILY) continue;
    ++batch.closes;
    add_closed_socket(message->payload, batch);
  }
  batch.lost |= messages.malformed();
}

DestroyEvents::Batch DestroyEvents::drain() {
  Batch batch;
  netlink::ReceiveBuffer buffer;
  for (int i = 0; i < kBatch; ++i) {
    const auto datagram = buffer.receive(socket_.get());
    if (!datagram) batch.lost = true;  // ENOBUFS: reported once; the queue continues after it
    if (!datagram && datagram.error().code != ENOBUFS) return batch;
    if (!datagram) continue;
    if (!*datagram) return batch;
    read_event((*datagram)->bytes, batch);
    batch.lost |= (*datagram)->truncated;
  }
  batch.more = true;
  return batch;
}

}  // namespace portfwd
