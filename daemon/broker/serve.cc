
#include "broker/serve.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "broker/sandbox.h"

namespace portfwd::broker {

namespace {

bool is_internet(const Request& r) {
  return (r.family == AF_INET || r.family == AF_INET6) && r.protocol == 0 &&
         (r.type == SOCK_STREAM || r.type == SOCK_DGRAM);
}

bool is_sock_diag(const Request& r) {
  return r.family == AF_NETLINK && r.protocol == NETLINK_SOCK_DIAG && r.type == SOCK_RAW;
}

UniqueFd make_socket(const Request& r) {
  return UniqueFd(::socket(r.family, r.type | SOCK_CLOEXEC | SOCK_NONBLOCK, r.protocol));
}

bool set_flag(int socket, int level, int option, int value) {
  return ::setsockopt(socket, level, option, &value, sizeof value) == 0;
}

bool bind_to(int socket, const Request& r) {
  const auto port = htons(static_cast<std::uint16_t>(r.port));
  if (r.family == AF_INET) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = port;
    std::memcpy(&address.sin_addr, r.address, sizeof address.sin_addr);
    return ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = port;
  std::memcpy(&address.sin6_addr, r.address, sizeof address.sin6_addr);
  return ::bind(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

bool set_options(int socket, const Request& r) {
  if (!set_flag(socket, SOL_SOCKET, SO_REUSEADDR, 1)) return false;
  return r.family != AF_INET6 ||
         set_flag(socket, IPPROTO_IPV6, IPV6_V6ONLY, static_cast<int>(r.v6only));
}

constexpr std::string_view kReno = "reno";

bool uses_bbr(int stream) {
  char name[16]{};  // TCP_CA_NAME_MAX
  socklen_t length = sizeof name;
  return ::getsockopt(stream, IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 &&
         std::string_view(name, ::strnlen(name, sizeof name)) == "bbr";
}

/// Sets the options that a relay needs, ahead of time instead of when each connection comes.
/// Failures are ignored, since a relay works without them.
void tune(int stream, bool prefer_reno) {
  (void)set_flag(stream, IPPROTO_TCP, TCP_NODELAY, 1);
  (void)set_flag(stream, SOL_SOCKET, SO_OOBINLINE, 1);
  if (!prefer_reno) return;
  (void)::setsockopt(stream, IPPROTO_TCP, TCP_CONGESTION, kReno.data(), kReno.size());
}

}  // namespace

Outcome make_sockets(const Request& request, FdBatch& made) {
  if (!is_internet(request) && !is_sock_diag(request)) return {EINVAL, Step::Request};
  const bool streams = is_internet(request) && request.type == SOCK_STREAM;
  bool prefer_reno = false;
  while (made.size() < request.count) {
    UniqueFd socket = make_socket(request);
    if (!socket.valid()) return failed(Step::Socket);
    if (streams && made.size() == 0) prefer_reno = uses_bbr(socket.get());
    if (streams) tune(socket.get(), prefer_reno);
    made.add(std::move(socket));
  }
  return {};
}

Outcome make_listener(const Request& request, FdBatch& made) {
  if (!is_internet(request)) return {EINVAL, Step::Request};
  UniqueFd socket = make_socket(request);
  if (!socket.valid()) return failed(Step::Socket);
  if (!set_options(socket.get(), request)) return failed(Step::SetOption);
  if (!bind_to(socket.get(), request)) return failed(Step::Bind);
  const bool listens = request.type == SOCK_STREAM && request.backlog >= 0;
  if (listens && ::listen(socket.get(), request.backlog) != 0) return failed(Step::Listen);
  made.add(std::move(socket));
  return {};
}

namespace {

constexpr Capabilities bit(int capability) {
  return Capabilities{1} << capability;
}

constexpr Capabilities capabilities_of(Home home) {
  constexpr Capabilities kIds = bit(CAP_SETUID) | bit(CAP_SETGID);
  switch (home) {
    case Home::Private:
      return bit(CAP_SYS_ADMIN) | bit(CAP_NET_BIND_SERVICE);
    case Home::Names:
      return bit(CAP_SYS_ADMIN) | kIds;
    case Home::Paths:
      return bit(CAP_DAC_OVERRIDE) | bit(CAP_CHOWN) | kIds;
    case Home::Here:
    case Home::HostPaths:
      break;
  }
  return 0;
}

/// Makes an empty network namespace. It is owned by the user namespace just joined, so setns() back
/// to it is permitted, which it would not be for the daemon's own.
/// Fact: UserNamespace.CannotBeLeftOnceJoined.
Outcome make_home(UniqueFd& home) {
  if (::unshare(CLONE_NEWNET) != 0) return failed(Step::MakeHome);
  home = UniqueFd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  return home.valid() ? Outcome() : failed(Step::MakeHome);
}

}  // namespace

Outcome join(const Request& request, UniqueFd userns, Joined& joined) {
  if (userns.valid() && ::setns(userns.get(), CLONE_NEWUSER) != 0) return failed(Step::JoinUser);
  const Home home = joined.home = request.home;
  if (home == Home::Private || home == Home::Names) {
    if (const Outcome made = make_home(joined.netns); !made.ok()) return made;
  }
  ::umask(0);  // UnixListen sets the exact mode
  if (const auto dropped = drop_capabilities(capabilities_of(home)); !dropped.ok()) return dropped;
  if (home != Home::Private && home != Home::Here) joined.ids = determine_ids();
  return filter_system_calls(home);
}

UniqueFd fetch_channel(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path) return {};
  std::strcpy(address.sun_path, path);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return {};
  }
  char byte = 0;
  iovec part{&byte, sizeof byte};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  if (::recvmsg(socket.get(), &header, MSG_CMSG_CLOEXEC) != sizeof byte) return {};
  const cmsghdr* item = CMSG_FIRSTHDR(&header);
  if (item == nullptr || item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS ||
      item->cmsg_len != CMSG_LEN(sizeof(int))) {
    return {};
  }
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(item), sizeof fd);
  return UniqueFd(fd);
}

Outcome enter_netns(int netns, int home) {
  if (home < 0) return {EPERM, Step::EnterNet};
  return ::setns(netns, CLONE_NEWNET) == 0 ? Outcome() : failed(Step::EnterNet);
}

void go_home(int home) {
  if (::setns(home, CLONE_NEWNET) != 0) ::_exit(1);
}

namespace {

Outcome make_internet(const Request& request, FdBatch& made) {
  return request.op == Op::Sockets ? make_sockets(request, made) : make_listener(request, made);
}

Outcome make_in(int netns, int home, const Request& request, FdBatch& made) {
  if (const Outcome entered = enter_netns(netns, home); !entered.ok()) return entered;
  const Outcome outcome = make_internet(request, made);
  go_home(home);
  return outcome;
}

/// Whether a broker that has joined in this way serves the request.
bool serves(Home home, const Request& request, bool has_fd) {
  const bool paths = home == Home::Paths || home == Home::HostPaths;
  switch (request.op) {
    case Op::Join:
    case Op::Sockets:
    case Op::Listen:
      return home == Home::Private || home == Home::Here;
    case Op::UnixConnect:
    case Op::UnixListen:
      if (request.name_size == 0) return paths;
      return has_fd ? home == Home::Names : paths || home == Home::Here;
    case Op::UnixRemove:
      return paths;
  }
  return false;
}

Outcome carry_out(const Message& message, const Joined& joined, FdBatch& made, FileReport& file) {
  const Request& request = message.request;
  const int passed = message.passed.get();
  const int home = joined.netns.get();
  if (request.op == Op::Join) return {EALREADY, Step::Request};
  if (!serves(joined.home, request, passed >= 0)) return {EPERM, Step::Request};
  const UnixSockets sockets(joined.ids, home);
  switch (request.op) {
    case Op::Join:
      break;
    case Op::Sockets:
    case Op::Listen:
      return passed < 0 ? make_internet(request, made) : make_in(passed, home, request, made);
    case Op::UnixConnect:
      return sockets.connect(request, passed, made, file);
    case Op::UnixListen:
      return sockets.listen(request, passed, made, file);
    case Op::UnixRemove:
      return sockets.remove(request, passed, file);
  }
  return {EINVAL, Step::Request};
}

bool answer_one(const Channel& channel, const Message& message, const Joined& joined) {
  FdBatch made;
  FileReport file;
  const Outcome outcome = carry_out(message, joined, made, file);
  return channel.answer(message.request.id, outcome, made, file);
}

}  // namespace

void serve(const Channel& channel, const Joined& joined) {
  Message message;
  while (channel.next(message)) {
    if (!answer_one(channel, message, joined)) return;
  }
}

}  // namespace portfwd::broker
