// A network namespace entered through a broker: sockets made inside watch its listeners and dial
// them. Nothing is started before a socket is in use inside: until then the watch is dormant, and
// the broker is only known by name.
#pragma once

#include <memory>
#include <string>

#include "access/netns_access.h"
#include "access/ways_inside.h"
#include "broker/client/broker_set.h"

namespace portfwd {

class BrokerAccess final : public NetnsAccess {
 public:
  struct Entry {
    std::string name;  ///< of the container, for the log
    pid_t pid = 0;
    std::uint64_t netns = 0;
    UniqueFd netns_fd;
    std::shared_ptr<BrokerClient> broker;
  };
  BrokerAccess(const Parts& parts, RelayContext& relay, Entry entry);

  [[nodiscard]] AccessKind kind() const override { return AccessKind::Broker; }
  [[nodiscard]] Dialer& dialer(Protocol protocol) override { return ways_.dialer(protocol); }
  [[nodiscard]] TakenPort listen_inside(Port port, InsidePortHandler& handler) override;

 private:
  void need_diag(PortWatch& watch) override;
  void prepare(std::vector<Listener>& now) override;
  void ask_for_diag();
  void got_diag(Result<BrokerClient::Sockets> sockets);

  Entry entry_;
  const DiagModules& modules_;
  bool failure_told_ = false;  ///< until it works again
  WaysInside ways_;
  BrokerCall diag_call_;
};

}  // namespace portfwd
