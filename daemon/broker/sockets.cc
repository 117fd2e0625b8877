#include "broker/sockets.h"

#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstring>
#include <string_view>

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

/// Sets what a relay needs, here and ahead, instead of once for each connection when it comes. None
/// of it is worth a failure.
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

}  // namespace portfwd::broker
