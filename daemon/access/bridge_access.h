// A network namespace that can't be entered: its listeners are read from /proc, and those that can
// be reached from outside are dialled at the container's own address. The others are told apart,
// each with what would help.
#pragma once

#include <string>

#include "access/netns_access.h"
#include "access/outside.h"
#include "access/way_in.h"

namespace portfwd {

class BridgeAccess final : public NetnsAccess {
 public:
  /// @param pid a process inside, held by the caller's pidfd
  BridgeAccess(const Parts& parts, RelayContext& relay, pid_t pid, BridgeDialer::Inside inside)
      : NetnsAccess(parts, pid, 0),
        outside_(
            relay, std::move(inside), [] { return std::string(kRunItRootless); },
            [this] { reconsider(); }) {}

  [[nodiscard]] AccessKind kind() const override { return AccessKind::Bridge; }
  [[nodiscard]] Dialer& dialer(Protocol) override { return outside_.dialer(); }
  [[nodiscard]] TakenPort listen_inside(Port, InsidePortHandler&) override {
    return std::unexpected(outside_.closed());
  }

 private:
  void need_diag(PortWatch& watch) override {
    (void)watch.use_procfs(outside_.table());  // on a failure it asks again
  }
  void prepare(std::vector<Listener>& now) override { outside_.mark(now); }

  Outside outside_;
};

}  // namespace portfwd
