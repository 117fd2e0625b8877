// Access to a network namespace through a broker: sockets made inside watch its listeners and dial
// them. Nothing is started before a socket is in use inside: until then the watch is dormant, and
// no broker runs for this namespace's sake.
#pragma once

#include <memory>
#include <string>

#include "access/netns_access.h"
#include "access/netns_sockets.h"

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
  [[nodiscard]] Dialer& dialer(Protocol protocol) override { return sockets_.dialer(protocol); }
  [[nodiscard]] std::expected<std::unique_ptr<InsidePort>, std::string> listen_inside(
      Port port, InsidePortHandler& handler) override {
    return sockets_.listen_inside(port, handler);
  }

 private:
  void on_source_needed() override;
  void prepare_dialing(std::vector<Listener>& listeners) override { sockets_.prepare(listeners); }
  void request_diag();
  void on_failure(const Error& error);

  std::string name_;
  bool failure_logged_ = false;  ///< until it works again
  NetnsSockets sockets_;
};

}  // namespace portfwd
