// Sockets that a broker makes in one network namespace, for whatever needs them: the watch, the
// dialers, ports of the daemon's own inside. A member of the access that may enter the namespace;
// the broker's launcher decides whether that is a program of this user or a helper container.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "access/container_access.h"
#include "access/port_watch.h"
#include "broker/client/broker_client.h"
#include "broker/client/socket_pool.h"
#include "relay/netns_dialer.h"

namespace portfwd {

class NetnsSockets {
 public:
  /// Never called from within the request. It may destroy the NetnsSockets.
  using Done = std::move_only_function<void(Result<void>)>;

  /// @param broker must not be null
  /// @param netns the namespace; invalid: the one that the broker is in
  /// @param watch borrowed
  NetnsSockets(RelayContext& relay, std::shared_ptr<BrokerClient> broker, UniqueFd netns,
               PortWatch& watch);

  /// Asks for the two netlink sockets that the watch reads, and passes them on. The watch is told
  /// of success alone: after a failure `done` must call its diag_failed() or diag_delayed(). A
  /// request under way is cancelled.
  void request_diag(Done done);
  /// Asks for a socket and discards it: finds out whether sockets can be made.
  void request_probe(Done done);

  /// For as long as this lives.
  [[nodiscard]] Dialer& dialer(Protocol protocol) { return way(protocol).dialer; }
  /// Has sockets ready for these.
  void prepare(const std::vector<Listener>& listeners);
  [[nodiscard]] std::unique_ptr<InsidePort> listen_inside(Port port, InsidePortHandler& handler);

 private:
  struct Way {
    Way(RelayContext& relay, std::shared_ptr<BrokerClient> broker, int netns, Protocol protocol)
        : pool(relay.loop(), std::move(broker), netns, protocol), dialer(relay, pool) {}
    SocketPool pool;
    NetnsDialer dialer;
  };
  [[nodiscard]] Way& way(Protocol protocol);

  RelayContext& relay_;
  std::shared_ptr<BrokerClient> broker_;
  UniqueFd netns_;
  PortWatch& watch_;
  std::unique_ptr<Way> streams_;    ///< made when needed
  std::unique_ptr<Way> datagrams_;  ///< made when needed
  BrokerCall call_;
};

}  // namespace portfwd
