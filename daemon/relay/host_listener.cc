#include "relay/host_listener.h"

#include <sys/socket.h>

#include <algorithm>

namespace portfwd {

namespace {

void set_option(int fd, int level, int name, int value) {
  (void)::setsockopt(fd, level, name, &value, sizeof value);
}

Result<UniqueFd> open_bound(const Endpoint& endpoint) {
  const int family = address_family(endpoint.address.family());
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail("socket");
  if (family == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 1);
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  const SockAddr address = to_sockaddr(endpoint);
  if (::bind(fd.get(), address.get(), address.length) != 0) return fail("bind");
  return fd;
}

/// IPv6 is switched off or not compiled in; lo has no ::1.
bool host_lacks(const Endpoint& endpoint, const Error& error) {
  return endpoint.address.is_loopback() &&
         (error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT);
}

bool is_listening(int fd) {
  int listening = 0;
  socklen_t length = sizeof listening;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening != 0;
}

bool no_descriptor(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

}  // namespace

HostListener::HostListener(RelayContext& context, AcceptGate& gate, ClientSink& sink)
    : context_(context), gate_(gate), sink_(sink) {
  gate_.join(*this);
}

HostListener::~HostListener() {
  gate_.leave(*this);
}

std::expected<void, BindFailure> HostListener::bind(std::span<const Endpoint> endpoints) {
  BindFailure failure{};
  std::vector<BoundSocket> bound;
  for (const Endpoint& endpoint : endpoints) {
    auto socket = open_bound(endpoint);
    if (socket) {
      bound.push_back({endpoint, std::move(*socket)});
      continue;
    }
    failure = {endpoint, socket.error()};
    if (!host_lacks(endpoint, socket.error())) return std::unexpected(failure);
  }
  if (bound.empty()) return std::unexpected(failure);
  adopt(std::move(bound));
  return {};
}

void HostListener::adopt(std::vector<BoundSocket> sockets) {
  for (BoundSocket& bound : sockets) {
    set_option(bound.socket.get(), SOL_SOCKET, SO_REUSEADDR, 0);
    context_.tune(bound.socket.get());
    sockets_.emplace_back(*this, std::move(bound.socket), bound.endpoint);
    endpoints_.push_back(bound.endpoint);
  }
}

std::expected<void, BindFailure> HostListener::accept() {
  for (Socket& socket : sockets_) {
    set_option(socket.fd.get(), SOL_SOCKET, SO_REUSEADDR, 1);
    if (::listen(socket.fd.get(), SOMAXCONN) != 0) {
      const BindFailure failure{socket.endpoint, {errno, "listen"}};
      refuse();
      return std::unexpected(failure);
    }
  }
  accepting_ = true;
  update_interest();
  return {};
}

/// shutdown(2) makes a listener an ordinary bound socket again, which may listen once more.
/// Test: HostPortFacts.AListenerThatIsShutDownKeepsItsPortAndRefuses
void HostListener::refuse() {
  accepting_ = false;
  update_interest();
  for (Socket& socket : sockets_) {
    if (is_listening(socket.fd.get())) ::shutdown(socket.fd.get(), SHUT_RDWR);
    set_option(socket.fd.get(), SOL_SOCKET, SO_REUSEADDR, 0);
  }
}

void HostListener::close() {
  accepting_ = false;
  sockets_.clear();
  endpoints_.clear();
}

void HostListener::pause(bool paused) {
  paused_ = paused;
  update_interest();
}

void HostListener::update_interest() {
  const std::uint32_t events = accepting_ && !paused_ && gate_.admits(*this) ? EPOLLIN : 0U;
  for (Socket& socket : sockets_) (void)socket.source.watch(events);
}

/// Errors other than those of a shortage belong to the one connection that was next in the queue.
/// Source: accept(2), "Error handling".
void HostListener::on_io(IoSource& source, std::uint32_t) {
  const auto socket = std::ranges::find(sockets_, &source, [](Socket& s) { return &s.source; });
  for (int i = 0; i < kAcceptsPerTurn && source.mask() != 0; ++i) {
    SockAddr from;
    from.length = sizeof from.storage;
    UniqueFd client(::accept4(source.fd(), from.get(), &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (client.valid()) {
      const int number = client.get();
      const Endpoint peer = from_sockaddr(from).value_or(Endpoint{});
      sink_.on_client({std::move(client), peer, socket->endpoint});
      gate_.accepted(number, *this);
    } else if (errno == EAGAIN) {
      return gate_.queue_is_empty();
    } else if (no_descriptor(errno)) {
      return gate_.close({errno, "accept"});
    }
  }
}

}  // namespace portfwd
