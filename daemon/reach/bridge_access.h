// A network namespace that can't be entered: its listeners are read from /proc, and those that can
// be reached from outside are dialled at the container's own address. The others are told apart,
// each with what would help.
#pragma once

#include <memory>
#include <string>

#include "reach/access.h"
#include "relay/bridge_dialer.h"

namespace portfwd {

class BridgeAccess final : public Access {
 public:
  /// How often it is looked whether an address has come for what could not be dialled.
  static constexpr Duration kAddressPause = std::chrono::seconds(2);

  /// @param pid a process inside, held by the caller's pidfd
  /// @param remedy what would make all of it reachable, as a sentence's end
  BridgeAccess(const Parts& parts, RelayContext& relay, pid_t pid, BridgeDialer::Inside inside,
               std::string remedy);

  [[nodiscard]] ReachKind kind() const override { return ReachKind::Bridge; }
  [[nodiscard]] Dialer& dialer() override { return dialer_; }

 private:
  void need_diag(PortWatch& watch) override;
  void prepare(std::vector<Listener>& now) override;

  std::string remedy_;
  BridgeDialer dialer_;
  Timer look_again_;
};

}  // namespace portfwd
