#include "kernel/sock_diag.h"

#include <fmt/format.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <iterator>
#include <string_view>

#include "base/log.h"

namespace portfwd {

DiagModules::DiagModules(EventLoop& loop, Probe probe)
    : probe_(std::move(probe)), again_(loop, [this] { probe_modules(); }) {
  probe_modules();
}

std::string DiagModules::trouble(Protocol protocol) const {
  if (of(protocol)) return "";
  if (protocol == Protocol::Unix) {
    return fmt::format(
        "cannot query Unix sockets: {}; they are read from /proc, without their backlog, until the "
        "module unix_diag is loaded (modprobe unix_diag)",
        of(protocol).error().text());
  }
  return fmt::format(
      "cannot identify clients: {}; every client is refused until the module {}_diag is loaded "
      "(modprobe {}_diag) or restrict_to_user = false is set",
      of(protocol).error().text(), name_of(protocol), name_of(protocol));
}

void DiagModules::probe_modules() {
  bool missing = false;
  bool changed = false;
  for (const Protocol protocol : {Protocol::Tcp, Protocol::Udp, Protocol::Unix}) {
    Result<void>& known = found_[static_cast<std::size_t>(protocol)];
    const bool had_it = known.has_value();
    known = probe_(protocol);
    missing |= !known;
    changed |= known.has_value() != had_it;
    if (known && !had_it) {
      log::info("the kernel module {}_diag is available again", name_of(protocol));
    } else if (!known && had_it) {
      log::warning("{}: {}", name_of(protocol), trouble(protocol));
    }
  }
  if (missing) again_.arm_after(kPause);
  if (changed) on_change_();
}

namespace {

constexpr int kDumpAttempts = 3;

std::uint8_t listening_state(Protocol protocol) {
  return protocol == Protocol::Tcp ? std::uint8_t{TCP_LISTEN} : kUdpUnconnected;
}

std::uint8_t number_of(Protocol protocol) {
  assert(protocol != Protocol::Unix);
  return protocol == Protocol::Tcp ? std::uint8_t{IPPROTO_TCP} : std::uint8_t{IPPROTO_UDP};
}

Family family_of(std::uint8_t address_family) {
  return address_family == AF_INET ? Family::V4 : Family::V6;
}

/// Opens a Unix socket with an abstract name that the kernel chooses. Source: unix(7), autobind.
Result<UniqueFd> open_unix_listener() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail("socket");
  const sockaddr unnamed{.sa_family = AF_UNIX, .sa_data = {}};
  if (::bind(fd.get(), &unnamed, sizeof unnamed.sa_family) != 0) return fail("bind");
  if (::listen(fd.get(), 1) != 0) return fail("listen");
  return fd;
}

/// Opens a socket on a free port of 127.0.0.1, or with an abstract name.
Result<UniqueFd> open_listener(Protocol protocol) {
  if (protocol == Protocol::Unix) return open_unix_listener();
  const bool tcp = protocol == Protocol::Tcp;
  UniqueFd fd(::socket(AF_INET, (tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail("socket");
  const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V4), 0});
  if (::bind(fd.get(), address.get(), address.length) != 0) return fail("bind");
  if (tcp && ::listen(fd.get(), 1) != 0) return fail("listen");
  return fd;
}

inet_diag_sockid socket_id(const Endpoint& local, const Endpoint& remote) {
  inet_diag_sockid id{};
  id.idiag_sport = htons(local.port);
  id.idiag_dport = htons(remote.port);
  std::memcpy(id.idiag_src, local.address.data(), local.address.size());
  std::memcpy(id.idiag_dst, remote.address.data(), remote.address.size());
  std::ranges::fill(id.idiag_cookie, ~0U);  // INET_DIAG_NOCOOKIE: any socket with these addresses
  return id;
}

}  // namespace

std::optional<DiagSocket> parse_diag_socket(netlink::Bytes payload) {
  const auto diag = netlink::copy_header<inet_diag_msg>(payload);
  if (!diag || (diag->idiag_family != AF_INET && diag->idiag_family != AF_INET6)) {
    return std::nullopt;
  }
  const Family family = family_of(diag->idiag_family);
  DiagSocket out;
  out.local = {IpAddress::from_network(family, diag->id.idiag_src), ntohs(diag->id.idiag_sport),
               diag->id.idiag_if};
  out.remote = {IpAddress::from_network(family, diag->id.idiag_dst), ntohs(diag->id.idiag_dport)};
  out.state = diag->idiag_state;
  out.uid = diag->idiag_uid;
  out.inode = diag->idiag_inode;
  out.cookie = std::uint64_t{diag->id.idiag_cookie[1]} << 32 | diag->id.idiag_cookie[0];
  netlink::Attributes attributes(payload.subspan(sizeof *diag));
  while (const auto attribute = attributes.next()) {
    if (attribute->type == INET_DIAG_SKV6ONLY) {
      out.v6only = netlink::copy_header<std::uint8_t>(attribute->payload).value_or(0) != 0;
    } else if (attribute->type == INET_DIAG_CGROUP_ID) {
      out.cgroup_id = netlink::copy_header<std::uint64_t>(attribute->payload).value_or(0);
    }
  }
  return out;
}

namespace {

/// The attributes of a Unix socket that are read.
struct UnixAttributes {
  netlink::Bytes name;
  std::optional<unix_diag_vfs> file;
  unix_diag_rqlen queues{};
  std::uint32_t uid = 0;
  std::uint8_t shut_down = 0;
};

UnixAttributes unix_attributes(netlink::Bytes bytes) {
  UnixAttributes out;
  netlink::Attributes attributes(bytes);
  while (const auto attribute = attributes.next()) {
    const netlink::Bytes value = attribute->payload;
    switch (attribute->type) {
      case UNIX_DIAG_NAME:
        out.name = value;
        break;
      case UNIX_DIAG_VFS:
        out.file = netlink::copy_header<unix_diag_vfs>(value);
        break;
      case UNIX_DIAG_RQLEN:
        out.queues = netlink::copy_header<unix_diag_rqlen>(value).value_or(unix_diag_rqlen{});
        break;
      case UNIX_DIAG_UID:
        out.uid = netlink::copy_header<std::uint32_t>(value).value_or(0);
        break;
      case UNIX_DIAG_SHUTDOWN:
        out.shut_down = netlink::copy_header<std::uint8_t>(value).value_or(0);
        break;
      default:
        break;
    }
  }
  return out;
}

/// @param bytes of sun_path; a path may end with a NUL byte, an abstract name begins with one
std::optional<Address> unix_name(netlink::Bytes bytes) {
  std::string_view name(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (name.empty() || name.size() > kLongestUnixName + 2) return std::nullopt;
  if (name.front() != '\0') return UnixPath{std::string(name.substr(0, name.find('\0')))};
  name.remove_prefix(1);
  if (name.empty() || name.size() > kLongestUnixName) return std::nullopt;
  return AbstractName{std::string(name)};
}

/// The kernel's own encoding of a device number to that of stat(2). Source: linux/kdev_t.h.
std::uint64_t user_device(std::uint32_t device) {
  return makedev(device >> 20, device & 0xfffff);
}

constexpr std::uint8_t kNoMoreClients = 1;  // RCV_SHUTDOWN of net/sock.h

}  // namespace

/// A socket that was shut down stays in LISTEN state and refuses all clients.
/// Test: UnixDiagFacts.AListenerThatWasShutDownStaysInTheDump
std::optional<DiagUnixSocket> parse_diag_unix_socket(netlink::Bytes payload) {
  const auto diag = netlink::copy_header<unix_diag_msg>(payload);
  if (!diag || diag->udiag_family != AF_UNIX || diag->udiag_state != TCP_LISTEN)
    return std::nullopt;
  if (diag->udiag_type != SOCK_STREAM && diag->udiag_type != SOCK_SEQPACKET) return std::nullopt;
  const UnixAttributes attributes = unix_attributes(payload.subspan(sizeof *diag));
  if ((attributes.shut_down & kNoMoreClients) != 0) return std::nullopt;
  auto name = unix_name(attributes.name);
  if (!name) return std::nullopt;
  DiagUnixSocket out;
  out.name = std::move(*name);
  out.type = diag->udiag_type == SOCK_STREAM ? SocketType::Stream : SocketType::Seqpacket;
  out.uid = attributes.uid;
  out.inode = diag->udiag_ino;
  out.cookie = std::uint64_t{diag->udiag_cookie[1]} << 32 | diag->udiag_cookie[0];
  if (attributes.file) {
    out.device = user_device(attributes.file->udiag_vfs_dev);
    out.file_inode = attributes.file->udiag_vfs_ino;
  }
  out.backlog = attributes.queues.udiag_wqueue;
  return out;
}

Result<SockDiag> SockDiag::open() {
  auto socket = netlink::open(NETLINK_SOCK_DIAG);
  if (!socket) return std::unexpected(socket.error());
  return SockDiag(std::move(*socket));
}

template <class Request>
Result<std::uint32_t> SockDiag::send(std::uint16_t type, std::uint16_t flags,
                                     const Request& request) {
  struct {
    nlmsghdr header;
    Request request;
  } message{{}, request};
  static_assert(sizeof message == NLMSG_HDRLEN + sizeof(Request));
  message.header.nlmsg_len = sizeof message;
  message.header.nlmsg_type = type;
  message.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  message.header.nlmsg_seq = ++sequence_;
  if (::send(socket_.get(), &message, sizeof message, MSG_DONTWAIT) < 0) return fail("sock_diag");
  return sequence_;
}

/// Reads the answer to `sequence` to its end. @param add called with the payload of each socket
template <class Socket, class Add>
Result<void> SockDiag::collect(std::uint32_t sequence, Dump<Socket>& into, const Add& add) {
  netlink::Answers answers(socket_.get(), sequence);
  while (true) {
    const auto message = answers.next();
    if (!message) return std::unexpected(message.error());
    into.interrupted |= (message->header.nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    into.interrupted |= answers.damaged();
    const auto type = message->header.nlmsg_type;
    if (type == NLMSG_DONE || type == NLMSG_ERROR) {
      const int status = netlink::status_of(*message);
      return status == 0 ? Result<void>{} : fail("sock_diag dump", status);
    }
    add(message->payload);
  }
}

namespace {

/// A function that adds the IP sockets in this state to a list.
auto in_state(std::uint8_t state, std::vector<DiagSocket>& list) {
  return [state, &list](netlink::Bytes payload) {
    const auto socket = parse_diag_socket(payload);
    if (socket && socket->state == state) list.push_back(*socket);
  };
}

}  // namespace

/// The request of before Linux 3.3 accepts AF_UNSPEC and the new one does not; both return the
/// attributes for v6only and cgroup. Test: SockDiagFacts.TheOldRequestDumpsBothFamiliesAtOnce
Result<SockDiag::IpDump> SockDiag::dump_all_families() {
  inet_diag_req request{};
  request.idiag_family = AF_UNSPEC;
  request.idiag_states = 1U << TCP_LISTEN;
  const auto sequence = send(TCPDIAG_GETSOCK, NLM_F_DUMP, request);
  if (!sequence) return std::unexpected(sequence.error());
  IpDump dump;
  const auto done = collect(*sequence, dump, in_state(TCP_LISTEN, dump.sockets));
  if (!done) return std::unexpected(done.error());
  return dump;
}

Result<SockDiag::IpDump> SockDiag::dump_family(Protocol protocol, std::uint8_t state,
                                               Family family) {
  inet_diag_req_v2 request{};
  request.sdiag_family = static_cast<std::uint8_t>(address_family(family));
  request.sdiag_protocol = number_of(protocol);
  request.idiag_states = 1U << state;
  const auto sequence = send(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request);
  if (!sequence) return std::unexpected(sequence.error());
  IpDump dump;
  const auto done = collect(*sequence, dump, in_state(state, dump.sockets));
  if (!done) return std::unexpected(done.error());
  return dump;
}

Result<SockDiag::IpDump> SockDiag::dump_families(Protocol protocol, std::uint8_t state) {
  auto all = dump_family(protocol, state, Family::V4);
  if (!all) return all;
  auto v6 = dump_family(protocol, state, Family::V6);
  if (!v6) return v6;
  std::ranges::move(v6->sockets, std::back_inserter(all->sockets));
  all->interrupted |= v6->interrupted;
  return all;
}

/// Uses the cheaper request where the kernel supports it, which is for TCP only. `one_pass_` is
/// cleared only when the other request works: with tcp_diag missing both fail, and the module may
/// be loaded later.
Result<SockDiag::IpDump> SockDiag::dump_listeners(Protocol protocol) {
  const bool tcp = protocol == Protocol::Tcp;
  if (tcp && one_pass_) {
    auto both = dump_all_families();
    if (both) return both;
  }
  auto all = dump_families(protocol, listening_state(protocol));
  if (all && tcp) one_pass_ = false;
  return all;
}

Result<SockDiag::Dump<DiagUnixSocket>> SockDiag::dump_unix_listeners() {
  unix_diag_req request{};
  request.sdiag_family = AF_UNIX;
  request.udiag_states = 1U << TCP_LISTEN;
  request.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID;
  std::ranges::fill(request.udiag_cookie, ~0U);  // any socket
  const auto sequence = send(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request);
  if (!sequence) return std::unexpected(sequence.error());
  Dump<DiagUnixSocket> dump;
  const auto done = collect(*sequence, dump, [&](netlink::Bytes payload) {
    if (dump.sockets.size() == kMostUnixListeners) return;
    if (auto socket = parse_diag_unix_socket(payload)) dump.sockets.push_back(std::move(*socket));
  });
  if (!done) return std::unexpected(done.error());
  return dump;
}

/// Discards what a failed request left in the queue, including the rest of a dump, which must be
/// read before the kernel begins another dump (EBUSY).
void SockDiag::discard_queued() {
  netlink::ReceiveBuffer buffer;
  while (buffer.receive(socket_.get()).value_or(std::nullopt)) {
  }
}

template <class Ask>
auto SockDiag::dump_whole(const Ask& ask)
    -> Result<decltype(std::declval<Ask>()().value().sockets)> {
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    auto result = ask();
    if (!result) {
      discard_queued();
      return std::unexpected(result.error());
    }
    if (!result->interrupted) return std::move(result->sockets);
  }
  return fail("sock_diag dump", EAGAIN);
}

Result<std::vector<DiagSocket>> SockDiag::listeners(Protocol protocol) {
  return dump_whole([&] { return dump_listeners(protocol); });
}

Result<std::vector<DiagUnixSocket>> SockDiag::unix_listeners() {
  return dump_whole([&] { return dump_unix_listeners(); });
}

Result<std::vector<DiagSocket>> SockDiag::connected_datagrams() {
  return dump_whole([&] { return dump_families(Protocol::Udp, TCP_ESTABLISHED); });
}

/// For UDP the kernel takes the request's "source" for that of a datagram to the socket; for TCP it
/// is the socket's own end. The answer always describes the socket from its own end.
/// Test: UdpSockDiagFacts.AUdpLookupFindsTheReceiverOfTheAnswer
Result<std::optional<SocketOwner>> SockDiag::lookup(const Endpoint& local, const Endpoint& remote,
                                                    Protocol protocol) {
  const bool tcp = protocol == Protocol::Tcp;
  inet_diag_req_v2 request{};
  request.sdiag_family = static_cast<std::uint8_t>(address_family(local.address.family()));
  request.sdiag_protocol = number_of(protocol);
  request.idiag_states = ~0U;
  request.id = tcp ? socket_id(local, remote) : socket_id(remote, local);
  const auto sequence = send(SOCK_DIAG_BY_FAMILY, 0, request);
  if (!sequence) return std::unexpected(sequence.error());
  netlink::Answers answers(socket_.get(), *sequence);
  const auto answer = answers.next();
  if (!answer) return std::unexpected(answer.error());
  if (answer->header.nlmsg_type == NLMSG_ERROR) {
    const int status = netlink::status_of(*answer);
    if (status == ENOENT) return std::nullopt;
    return fail("sock_diag lookup", status == 0 ? EBADMSG : status);
  }
  const auto socket = parse_diag_socket(answer->payload);
  if (!socket) return fail("sock_diag lookup", EBADMSG);
  if (!tcp && socket->local.port != local.port) return std::nullopt;  // the reverse direction
  return SocketOwner{socket->uid, socket->inode, socket->state};
}

Result<void> SockDiag::self_test(Protocol protocol) {
  const auto probe = open_listener(protocol);
  if (!probe) return std::unexpected(probe.error());
  const auto cookie = socket_cookie(probe->get());
  if (!cookie) return std::unexpected(cookie.error());
  const auto contains_it = [&](const auto& found) -> Result<void> {
    if (!found) return std::unexpected(found.error());
    const auto has_cookie = [&](const auto& socket) { return socket.cookie == *cookie; };
    if (std::ranges::count_if(*found, has_cookie) == 1) return {};
    return fail("sock_diag self-test", ENOENT);
  };
  return protocol == Protocol::Unix ? contains_it(unix_listeners())
                                    : contains_it(listeners(protocol));
}

Result<std::uint32_t> socket_inode(int fd) {
  struct stat seen {};
  if (::fstat(fd, &seen) != 0) return fail("fstat");
  return static_cast<std::uint32_t>(seen.st_ino);
}

Result<std::uint64_t> socket_cookie(int fd) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) != 0) return fail("SO_COOKIE");
  return cookie;
}

}  // namespace portfwd
