// An InsidePort whose sockets a broker makes: one for each family, both or neither. Owned by
// whoever took the port.
#pragma once

#include <memory>
#include <vector>

#include "access/inside_port.h"
#include "access/port_watch.h"
#include "broker/client/broker_client.h"

namespace portfwd {

class BrokerInsidePort final : public InsidePort {
 public:
  struct Parts {
    std::shared_ptr<BrokerClient> broker;
    int netns;  ///< borrowed descriptor, or -1 for where the broker is
    PortWatch& watch;
  };
  /// The references are borrowed.
  BrokerInsidePort(Parts parts, Port port, InsidePortHandler& handler);
  BrokerInsidePort(const BrokerInsidePort&) = delete;
  BrokerInsidePort& operator=(const BrokerInsidePort&) = delete;
  ~BrokerInsidePort() override;

 private:
  void ask(Family family);
  void got(Family family, Result<BrokerClient::Sockets> made);
  [[nodiscard]] Result<void> keep(Family family, UniqueFd socket);

  Parts parts_;
  Port port_;
  InsidePortHandler& handler_;
  std::vector<BoundSocket> sockets_;
  std::vector<std::uint32_t> ignored_;
  BrokerCall call_;
};

}  // namespace portfwd
