// Access to a network namespace from outside, over the bridge: for one that cannot be entered. Its
// listeners are read from /proc, and those on a wildcard or on an address of the container's own
// are dialled there. The others are reported as unreachable, each with a remedy.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "access/netns_access.h"
#include "event/event_loop.h"
#include "relay/bridge_dialer.h"

namespace portfwd {

/// Docker's resolver inside of containers, which is no server of the container's.
inline constexpr IpAddress kEngineResolver = IpAddress::v4(127, 0, 0, 11);

/// What can be read and dialled of a namespace without entering it. A member of an access that has
/// nothing better, or nothing better yet.
class BridgeView {
 public:
  /// How often a listener that could not be dialled is checked for an address that has come since.
  static constexpr Duration kAddressPause = std::chrono::seconds(2);

  /// @param hint what would permit to enter, as the end of a sentence; called when some listener
  /// cannot be dialled
  /// @param on_address_due called from the loop when it is time to mark the listeners again
  BridgeView(RelayContext& relay, BridgeDialer::Inside inside, std::function<std::string()> hint,
             std::function<void()> on_address_due);

  [[nodiscard]] BridgeDialer& dialer() { return dialer_; }
  [[nodiscard]] Result<ProcNetSockets> table() const { return dialer_.table(); }
  /// Sets `unreachable` of each listener that cannot be dialled from outside.
  /// @param trouble what else has failed, as the beginning of a sentence, or ""
  void mark_unreachable(std::vector<Listener>& listeners, const std::string& trouble = "");
  /// Why no socket can be made inside, remedy included.
  [[nodiscard]] std::string why_no_socket_inside(const std::string& trouble = "") const;
  /// To be called once the namespace is entered: the listeners are not marked any more.
  void stop() { address_due_.disarm(); }

 private:
  std::function<std::string()> hint_;
  BridgeDialer dialer_;
  Timer address_due_;
};

class BridgeAccess final : public NetnsAccess {
 public:
  /// @param pid a process inside, held by the caller's pidfd
  BridgeAccess(const Parts& parts, RelayContext& relay, pid_t pid, BridgeDialer::Inside inside);

  [[nodiscard]] AccessKind kind() const override { return AccessKind::Bridge; }
  [[nodiscard]] Dialer& dialer(Protocol) override { return view_.dialer(); }
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(Port, OnInsidePort) override {
    return refuse(Refusal::Kind::Inaccessible, view_.why_no_socket_inside());
  }

 private:
  void on_source_needed() override {
    (void)watch().use_procfs(view_.table());  // after a failure it asks again
  }
  void prepare_dialing(std::vector<Listener>& listeners) override {
    view_.mark_unreachable(listeners);
  }

  BridgeView view_;
};

}  // namespace portfwd
