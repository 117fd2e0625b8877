#include "bench/place.h"

#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "bench/figures.h"
#include "kernel/stream.h"

namespace portfwd::bench {

namespace {

constexpr int kBacklog = 4096;

}  // namespace

SockAddr Place::sockaddr() const {
  if (path.empty()) return to_sockaddr({*IpAddress::parse(address), port});
  SockAddr out;
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  path.copy(at.sun_path, sizeof at.sun_path - 1);
  std::memcpy(&out.storage, &at, sizeof at);
  out.length = sizeof at;
  return out;
}

std::string Place::text(std::string_view before_path) const {
  return path.empty() ? fmt::format("{}:{}", address, port) : std::string(before_path) + path;
}

UniqueFd make_socket(const Place& place, int flags) {
  return UniqueFd(
      ::socket(place.path.empty() ? AF_INET : AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}

UniqueFd listen_at(const Place& place, int flags) {
  UniqueFd fd = make_socket(place, flags);
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const SockAddr at = place.sockaddr();
  if (::bind(fd.get(), at.get(), at.length) != 0 || ::listen(fd.get(), kBacklog) != 0) {
    give_up(fmt::format("{}: {}", place.text(), std::strerror(errno)));
  }
  return fd;
}

std::uint16_t port_of(const UniqueFd& socket) {
  return local_endpoint(socket.get()).value_or(Endpoint{}).port;
}

}  // namespace portfwd::bench
