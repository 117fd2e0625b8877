
#include "relay/stream_listener.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cassert>
#include <cerrno>

namespace portfwd {

namespace {

void switch_on(int fd, int level, int name) {
  const int on = 1;
  (void)::setsockopt(fd, level, name, &on, sizeof on);
}

Result<UniqueFd> open_bound(Protocol protocol, const Endpoint& endpoint) {
  const int family = address_family(endpoint.address.family());
  const int type = protocol == Protocol::Tcp ? SOCK_STREAM : SOCK_DGRAM;
  UniqueFd fd(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail("socket");
  if (family == AF_INET6) switch_on(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY);
  if (protocol == Protocol::Tcp) switch_on(fd.get(), SOL_SOCKET, SO_REUSEADDR);
  const SockAddr address = to_sockaddr(endpoint);
  if (::bind(fd.get(), address.get(), address.length) != 0) return fail("bind");
  return fd;
}

/// Whether the host lacks the address family: IPv6 is disabled or not compiled in, or lo has no
/// ::1.
bool host_lacks(const Endpoint& endpoint, const Error& error) {
  return endpoint.address.is_loopback() &&
         (error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT);
}

}  // namespace

std::expected<std::vector<BoundSocket>, BindFailure> bind_together(
    Protocol protocol, std::span<const Address> addresses) {
  BindFailure failure{};
  std::vector<BoundSocket> bound;
  assert(!addresses.empty());
  for (const Address& address : addresses) {
    auto socket = open_bound(protocol, address.ip());
    if (socket) {
      bound.push_back({address, std::move(*socket)});
      continue;
    }
    failure = {protocol, address, socket.error()};
    if (!host_lacks(address.ip(), socket.error())) return std::unexpected(failure);
  }
  if (bound.empty()) return std::unexpected(failure);
  return bound;
}

namespace {

void set_option(int fd, int level, int name, int value) {
  (void)::setsockopt(fd, level, name, &value, sizeof value);
}

void set_reuse(int fd, bool on) {
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, on ? 1 : 0);
}

/// shutdown(2) turns a listener back into a bound socket, which can listen again. It has no effect
/// on a socket that does not listen. Test:
/// HostPortFacts.AListenerThatIsShutDownKeepsItsPortAndRefuses
void stop_listening(int fd) {
  set_reuse(fd, false);
  ::shutdown(fd, SHUT_RDWR);
}

/// @return 0, with SO_REUSEADDR on; or the errno, with SO_REUSEADDR off
int start_listening(int fd) {
  if (::listen(fd, SOMAXCONN) == 0) {
    set_reuse(fd, true);
    return 0;
  }
  if (errno != EADDRINUSE) return errno;
  set_reuse(fd, true);
  if (::listen(fd, SOMAXCONN) == 0) return 0;
  const int error = errno;
  set_reuse(fd, false);
  return error;
}

bool is_shortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

StreamListener::StreamListener(RelayContext& context, AcceptGate& gate, OnClient on_client)
    : context_(context),
      gate_(gate),
      member_(gate, [this] { update_interest(); }),
      on_client_(std::move(on_client)) {}

std::expected<void, BindFailure> StreamListener::adopt(std::vector<BoundSocket> sockets) {
  assert(sockets_.empty() && !sockets.empty());
  for (BoundSocket& bound : sockets) {
    Socket& socket = sockets_.emplace_back(*this, std::move(bound));
    addresses_.push_back(socket.address);
    if (const int error = prepare(socket); error != 0) {
      const BindFailure failure{Protocol::Tcp, socket.address, {error, "listen"}};
      close();
      return std::unexpected(failure);
    }
  }
  return {};
}

std::expected<void, BindFailure> StreamListener::accept() {
  if (accepting_) return {};
  assert(!sockets_.empty());
  for (Socket& socket : sockets_) {
    if (const int error = start(socket); error != 0) {
      const BindFailure failure{Protocol::Tcp, socket.address, {error, "listen"}};
      refuse();
      return std::unexpected(failure);
    }
  }
  accepting_ = true;
  update_interest();
  return {};
}

void StreamListener::refuse() {
  accepting_ = false;
  update_interest();
  for (Socket& socket : sockets_) {
    stop(socket);
    socket.refuses = true;
  }
}

void StreamListener::close() {
  accepting_ = false;
  for (Socket& socket : sockets_) {
    socket.source.disarm();
    if (socket.fd.valid()) close_socket(socket);
  }
  sockets_.clear();
  addresses_.clear();
}

std::vector<BoundSocket> StreamListener::save() {
  std::vector<BoundSocket> saved;
  for (Socket& socket : sockets_) {
    socket.source.disarm();
    saved.push_back({std::move(socket.address), std::move(socket.fd), std::move(socket.binding)});
  }
  close();
  return saved;
}

void StreamListener::restore(std::vector<BoundSocket> sockets) {
  assert(sockets_.empty());
  for (BoundSocket& bound : sockets) {
    addresses_.push_back(bound.address);
    sockets_.emplace_back(*this, std::move(bound));
  }
}

void StreamListener::set_connections(std::size_t count, std::size_t most) {
  member_.set_connections(count);
  paused_ = most != 0 && count >= most;
  update_interest();
}

void StreamListener::update_interest() {
  const std::uint32_t events = accepting_ && !paused_ && member_.admitted() ? EPOLLIN : 0U;
  for (Socket& socket : sockets_) (void)socket.source.watch(socket.refuses ? 0U : events);
}

/// The number of clients to accept in this turn. An event means that the queue is not empty, not
/// how long it is: usually it contains one client, and a second accept(2) would fail with EAGAIN.
/// Events in successive turns mean a longer queue, so each such turn accepts twice as many as the
/// previous one. A saturated loop may not report the listener in successive turns, so the limit
/// does not apply there. Nor does it apply in states that end only when the queue is known to be
/// empty.
int StreamListener::accept_limit(Socket& socket) const {
  const EventLoop& loop = context_.loop();
  const bool in_succession = socket.turn + 1 == loop.turns();
  socket.turn = loop.turns();
  socket.accepts = in_succession ? std::min(2 * socket.accepts, kAcceptsPerTurn) : 1;
  const bool until_empty = !socket.inherited || gate_.shortage_reported() || loop.is_saturated();
  return until_empty ? kAcceptsPerTurn : socket.accepts;
}

/// Errors other than those of a shortage concern only the connection that was next in the queue.
/// Source: accept(2), "Error handling".
void StreamListener::on_io(IoSource& source, std::uint32_t) {
  const auto socket = std::ranges::find(sockets_, &source, [](Socket& s) { return &s.source; });
  assert(socket != sockets_.end() && accepting_);
  const int most = accept_limit(*socket);
  for (int i = 0; i < most && source.mask() != 0; ++i) {
    SockAddr from;
    from.length = sizeof from.storage;
    UniqueFd client(::accept4(source.fd(), from.get(), &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (client.valid()) {
      const int number = client.get();
      if (!socket->inherited) complete(number);
      on_client_({std::move(client), address_from(from).value_or(UnixPath{}), socket->address});
      member_.accepted(number);
    } else if (errno == EAGAIN) {
      socket->inherited = true;
      return gate_.set_queue_empty();
    } else if (is_shortage(errno)) {
      return gate_.close({errno, "accept"});
    }
  }
}

// ---- TCP ---------------------------------------------------------------------------------------

/// Listens at once, see the three rules in the header.
int TcpListener::prepare(Socket& socket) {
  context_.tune(socket.fd.get());
  return start_listening(socket.fd.get());
}

int TcpListener::start(Socket& socket) {
  const int error = start_listening(socket.fd.get());
  if (error == 0) socket.refuses = socket.inherited = false;
  return error;
}

void TcpListener::stop(Socket& socket) {
  stop_listening(socket.fd.get());
}

void TcpListener::complete(int accepted) {
  set_reuse(accepted, true);
}

// ---- Unix --------------------------------------------------------------------------------------

int UnixListener::prepare(Socket& socket) {
  assert(socket.binding != nullptr);
  socket.inherited = true;
  return 0;
}

int UnixListener::start(Socket& socket) {
  if (!socket.refuses) return ::listen(socket.fd.get(), SOMAXCONN) == 0 ? 0 : errno;
  socket.binding->renew([this, &socket](Result<UniqueFd> renewed) {
    if (renewed) return replace(socket, std::move(*renewed));
    on_lost_({Protocol::Unix, socket.address, renewed.error()});
  });
  return 0;
}

void UnixListener::replace(Socket& old, UniqueFd renewed) {
  BoundSocket bound{std::move(old.address), std::move(renewed), std::move(old.binding)};
  close_socket(old);
  sockets_.remove_if([&old](const Socket& socket) { return &socket == &old; });
  Socket& socket = sockets_.emplace_back(*this, std::move(bound));
  (void)prepare(socket);
  if (!accepting()) return;
  if (::listen(socket.fd.get(), SOMAXCONN) != 0) {
    return on_lost_({Protocol::Unix, socket.address, {errno, "listen"}});
  }
  update_interest();
}

void UnixListener::stop(Socket& socket) {
  ::shutdown(socket.fd.get(), SHUT_RDWR);
}

void UnixListener::close_socket(Socket& socket) {
  discard_(std::move(socket.fd));
}

}  // namespace portfwd
