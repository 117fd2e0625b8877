// Dialers with sockets that a broker makes in a network namespace, one for each protocol. A member
// of the access that may enter it.
#pragma once

#include <memory>
#include <vector>

#include "access/watcher.h"
#include "broker/client/socket_pool.h"
#include "relay/netns_dialer.h"

namespace portfwd {

class WaysInside {
 public:
  /// @param netns borrowed descriptor, or -1 for where the broker is
  WaysInside(RelayContext& relay, const std::shared_ptr<BrokerClient>& broker, int netns)
      : streams_(relay, broker, netns, Protocol::Tcp),
        datagrams_(relay, broker, netns, Protocol::Udp) {}

  [[nodiscard]] Dialer& dialer(Protocol protocol) {
    return (protocol == Protocol::Tcp ? streams_ : datagrams_).dialer;
  }
  /// Has sockets ready for these.
  void prepare(const std::vector<Listener>& listeners) {
    for (const Listener& listener : listeners) {
      SocketPool& pool = (listener.protocol == Protocol::Tcp ? streams_ : datagrams_).pool;
      pool.prepare(Family::V4);
      pool.prepare(Family::V6);
    }
  }

 private:
  struct Way {
    Way(RelayContext& relay, std::shared_ptr<BrokerClient> broker, int netns, Protocol protocol)
        : pool(relay.loop(), std::move(broker), netns, protocol), dialer(relay, pool) {}
    SocketPool pool;
    NetnsDialer dialer;
  };

  Way streams_;
  Way datagrams_;
};

}  // namespace portfwd
