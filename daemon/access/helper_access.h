// A network namespace of root's that an engine lets us into: seen and dialled from outside, as long
// as that is enough. The first listener that only a way inside would reach has a helper container
// started, or the first port that is to be ours; from then on it watches and dials inside. If there
// is no helper, since it does not come or the user may not use the engine's socket, all stays as it
// was, and it is tried again now and then.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "access/helper_containers.h"
#include "access/netns_access.h"
#include "access/outside.h"
#include "access/ways_inside.h"

namespace portfwd {

class HelperAccess final : public NetnsAccess, private Dialer {
 public:
  static constexpr Duration kRetry = std::chrono::seconds(60);

  struct Entry {
    pid_t pid = 0;  ///< a process inside, held by the caller's pidfd
    BridgeDialer::Inside inside;
    std::shared_ptr<HelperLauncher> launcher;
  };
  HelperAccess(const Parts& parts, RelayContext& relay, Entry entry);

  [[nodiscard]] AccessKind kind() const override {
    return inside_ ? AccessKind::Helper : AccessKind::Bridge;
  }
  /// Nothing but TCP is dialled before the helper has come: see Outside.
  [[nodiscard]] Dialer& dialer(Protocol protocol) override {
    return protocol == Protocol::Udp && inside_ ? inside_->dialer(protocol) : *this;
  }
  [[nodiscard]] TakenPort listen_inside(Port port, InsidePortHandler& handler) override;

 private:
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;
  void need_diag(PortWatch& watch) override;
  void prepare(std::vector<Listener>& now) override;
  void start_helper();
  void helper_answered(Result<BrokerClient::Sockets> sockets, bool diag);

  RelayContext& relay_;
  std::shared_ptr<HelperLauncher> launcher_;
  const DiagModules& modules_;
  Outside outside_;
  std::string trouble_;  ///< with the last helper
  std::shared_ptr<BrokerClient> broker_;
  std::optional<WaysInside> inside_;
  BrokerCall call_;
  BrokerCall diag_call_;
  Timer retry_;
};

}  // namespace portfwd
