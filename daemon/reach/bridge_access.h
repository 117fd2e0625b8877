// A network namespace that can't be entered: its listeners are read from /proc, and those that can
// be reached from outside are dialled at the container's own address. The others are told apart,
// each with what would help.
#pragma once

#include <string>

#include "reach/access.h"
#include "reach/outside.h"
#include "reach/way_in.h"

namespace portfwd {

class BridgeAccess final : public Access {
 public:
  /// @param pid a process inside, held by the caller's pidfd
  BridgeAccess(const Parts& parts, RelayContext& relay, pid_t pid, BridgeDialer::Inside inside)
      : Access(parts, pid, 0),
        outside_(
            relay, std::move(inside), [] { return std::string(kRunItRootless); },
            [this] { reconsider(); }) {}

  [[nodiscard]] ReachKind kind() const override { return ReachKind::Bridge; }
  [[nodiscard]] Dialer& dialer(Protocol) override { return outside_.dialer(); }
  [[nodiscard]] TakenPort take_port(Port, InsidePortHandler&) override {
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
