// Access to a network namespace of root whose engine this user may command. It begins as a bridge.
// The first listener that cannot be dialled from outside, or the first port that is to be opened
// inside, has a helper container started; from then on sockets made inside watch and dial. While
// there is no helper, since it fails to start or the user may not use the engine's socket, the
// bridge stays, and the helper is retried every kRetry.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "access/bridge_access.h"
#include "access/helper_containers.h"
#include "access/netns_sockets.h"

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
    return entered_ ? AccessKind::Helper : AccessKind::Bridge;
  }
  /// Before the helper has come only TCP is dialled: see BridgeView.
  [[nodiscard]] Dialer& dialer(Protocol protocol) override {
    return protocol == Protocol::Udp && entered_ ? sockets_->dialer(protocol) : *this;
  }
  /// A request to a helper that is on its way waits for it.
  [[nodiscard]] std::expected<std::unique_ptr<InsidePort>, std::string> listen_inside(
      Port port, InsidePortHandler& handler) override;

 private:
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;
  void on_source_needed() override;
  void prepare_dialing(std::vector<Listener>& listeners) override;
  void start_helper();
  void on_helper_started();
  void on_helper_failed(const Error& error);

  RelayContext& relay_;
  std::shared_ptr<HelperLauncher> launcher_;
  BridgeView view_;
  std::string trouble_;                  ///< with the last helper
  std::optional<NetnsSockets> sockets_;  ///< from the start of a helper until it fails to come
  bool entered_ = false;                 ///< the helper has come; implies sockets_
  Timer retry_;
};

}  // namespace portfwd
