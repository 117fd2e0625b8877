// A network namespace of root's that an engine lets us into: seen and dialled from outside, as long
// as that is enough. The first listener that only a way inside would reach has a helper container
// started, or the first port that is to be ours; from then on it watches and dials inside. If there
// is no helper, since it does not come or the user may not use the engine's socket, all stays as it
// was, and it is tried again now and then.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "reach/access.h"
#include "reach/helper_containers.h"
#include "reach/outside.h"
#include "reach/ways_inside.h"

namespace portfwd {

class HelperAccess final : public Access, private Dialer {
 public:
  static constexpr Duration kRetry = std::chrono::seconds(60);

  struct Entry {
    pid_t pid = 0;  ///< a process inside, held by the caller's pidfd
    BridgeDialer::Inside inside;
    std::shared_ptr<HelperLauncher> launcher;
  };
  HelperAccess(const Parts& parts, RelayContext& relay, Entry entry);

  [[nodiscard]] ReachKind kind() const override {
    return inside_ ? ReachKind::Helper : ReachKind::Bridge;
  }
  /// Nothing but TCP is dialled before the helper has come: see Outside.
  [[nodiscard]] Dialer& dialer(Protocol protocol) override {
    return protocol == Protocol::Udp && inside_ ? inside_->dialer(protocol) : *this;
  }
  [[nodiscard]] TakenPort take_port(Port port, InsidePortHandler& handler) override;

 private:
  [[nodiscard]] std::unique_ptr<Dial> dial(std::span<const Address> candidates, TimePoint deadline,
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
