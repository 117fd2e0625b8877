#include "access/netns_sockets.h"

#include <cassert>
#include <utility>

#include "broker/client/broker_messages.h"
#include "kernel/sock_diag.h"

namespace portfwd {

namespace {

constexpr std::uint32_t kDiagSockets = 2;  // one for dumps, one for close events

/// The container's network has no IPv6, or none on its lo.
bool lacks_family(const Error& error) {
  return error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT;
}

/// A port in the namespace: a socket for each family, both or neither.
class BrokerInsidePort final : public InsidePort {
 public:
  struct Parts {
    std::shared_ptr<BrokerClient> broker;
    int netns;  ///< borrowed descriptor, or -1 for where the broker is
    PortWatch& watch;
  };
  BrokerInsidePort(Parts parts, Port port, InsidePortHandler& handler)
      : parts_(std::move(parts)), port_(port), handler_(handler) {
    request(Family::V4);
  }
  BrokerInsidePort(const BrokerInsidePort&) = delete;
  BrokerInsidePort& operator=(const BrokerInsidePort&) = delete;
  ~BrokerInsidePort() override {
    for (const std::uint32_t inode : ignored_) parts_.watch.forget(inode);
  }

 private:
  void request(Family family) {
    call_ = parts_.broker->call(
        bound_stream({IpAddress::loopback(family), port_}), parts_.netns,
        [this, family](Result<BrokerClient::Sockets> made) { on_made(family, std::move(made)); });
  }

  void on_made(Family family, Result<BrokerClient::Sockets> made) {
    const bool optional = family == Family::V6;
    if (!made && !(optional && lacks_family(made.error()))) {
      return handler_.on_inside_port(std::unexpected(made.error()));
    }
    if (made) {
      assert(made->size() == 1);
      if (const auto added = add(family, std::move(made->front())); !added) {
        return handler_.on_inside_port(std::unexpected(added.error()));
      }
    }
    if (family == Family::V4) return request(Family::V6);
    handler_.on_inside_port(std::move(sockets_));
  }

  /// It does not listen yet, so no poll can have seen it before it is ignored.
  Result<void> add(Family family, UniqueFd socket) {
    const auto inode = socket_inode(socket.get());
    if (!inode) return std::unexpected(inode.error());
    parts_.watch.ignore(*inode);
    ignored_.push_back(*inode);
    sockets_.push_back({Endpoint{IpAddress::loopback(family), port_}, std::move(socket)});
    return {};
  }

  Parts parts_;
  Port port_;
  InsidePortHandler& handler_;
  std::vector<BoundSocket> sockets_;
  std::vector<std::uint32_t> ignored_;
  BrokerCall call_;
};

}  // namespace

NetnsSockets::NetnsSockets(RelayContext& relay, std::shared_ptr<BrokerClient> broker,
                           UniqueFd netns, PortWatch& watch)
    : relay_(relay), broker_(std::move(broker)), netns_(std::move(netns)), watch_(watch) {
  assert(broker_ != nullptr);
}

void NetnsSockets::request_diag(Done done) {
  call_ =
      broker_->call(sock_diag_sockets(kDiagSockets), netns_.get(),
                    [this, done = std::move(done)](Result<BrokerClient::Sockets> sockets) mutable {
                      if (!sockets) return done(std::unexpected(sockets.error()));
                      assert(sockets->size() == kDiagSockets);
                      watch_.give_diag(std::move((*sockets)[0]), std::move((*sockets)[1]));
                      done({});
                    });
}

void NetnsSockets::request_probe(Done done) {
  call_ =
      broker_->call(stream_sockets(Family::V4, 1), netns_.get(),
                    [done = std::move(done)](const Result<BrokerClient::Sockets>& sockets) mutable {
                      if (!sockets) return done(std::unexpected(sockets.error()));
                      done({});
                    });
}

NetnsSockets::Way& NetnsSockets::way(Protocol protocol) {
  std::unique_ptr<Way>& way = protocol == Protocol::Tcp ? streams_ : datagrams_;
  if (!way) way = std::make_unique<Way>(relay_, broker_, netns_.get(), protocol);
  return *way;
}

void NetnsSockets::prepare(const std::vector<Listener>& listeners) {
  for (const Listener& listener : listeners) {
    SocketPool& pool = way(listener.protocol).pool;
    pool.prepare(Family::V4);
    pool.prepare(Family::V6);
  }
}

std::unique_ptr<InsidePort> NetnsSockets::listen_inside(Port port, InsidePortHandler& handler) {
  assert(port != 0);
  return std::make_unique<BrokerInsidePort>(BrokerInsidePort::Parts{broker_, netns_.get(), watch_},
                                            port, handler);
}

}  // namespace portfwd
