// Access to a network namespace from outside, over the bridge, for namespaces that cannot be
// entered. Listeners are read from /proc. Those bound to a wildcard or to one of the container's
// own addresses are dialled there; all others are reported as unreachable, each with a remedy.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "access/netns_access.h"
#include "event/event_loop.h"
#include "relay/bridge_dialer.h"

namespace portfwd {

/// Address of Docker's DNS resolver inside a container. It is not a server of the container.
inline constexpr IpAddress kEngineResolver = IpAddress::v4(127, 0, 0, 11);

/// Why the files of a container of root cannot be opened, with the remedy.
inline constexpr std::string_view kNoFiles =
    "its file cannot be opened: at most the network of the container can be entered; run the "
    "container rootless";

/// The part of a namespace that can be read and dialled without entering it. A member of a
/// BridgeAccess, and of a HelperAccess, which uses it until its helper has started.
class BridgeView {
 public:
  /// How often a listener that could not be dialled is checked for a new address of its container.
  static constexpr Duration kAddressCheckInterval = std::chrono::seconds(2);

  /// @param hint returns how the user could permit access, as the end of a sentence; called when a
  /// listener cannot be dialled
  /// @param on_address_due called from the loop when mark_unreachable() should be called again
  BridgeView(RelayContext& relay, BridgeDialer::Inside inside, std::function<std::string()> hint,
             std::function<void()> on_address_due);

  [[nodiscard]] BridgeDialer& dialer() { return dialer_; }
  [[nodiscard]] Result<ProcNetSockets> table() const { return dialer_.table(); }
  /// Sets `unreachable` of each listener that cannot be dialled from outside, unless it is set.
  /// @param trouble another failure to mention, as the beginning of a sentence, or ""
  void mark_unreachable(std::vector<Listener>& listeners, const std::string& failure_text = "");
  /// Why no socket can be made inside, with the remedy.
  [[nodiscard]] std::string no_socket_reason(const std::string& failure_text = "") const;
  /// Stops the checks for new addresses. Must be called once the namespace is entered.
  void stop() { address_due_.disarm(); }

 private:
  std::function<std::string()> hint_;
  BridgeDialer dialer_;
  Timer address_due_;
};

class BridgeAccess final : public NetnsAccess {
 public:
  /// @param pid a process inside; the caller must hold its pidfd during the call
  BridgeAccess(const Parts& parts, RelayContext& relay, pid_t pid, BridgeDialer::Inside inside);

  [[nodiscard]] AccessKind kind() const override { return AccessKind::Bridge; }
  [[nodiscard]] Dialer& dialer(Protocol) override { return view_.dialer(); }
  [[nodiscard]] Answer<std::unique_ptr<InsidePort>> listen_inside(Port, OnInsidePort) override {
    return refuse(Refusal::Kind::Inaccessible, view_.no_socket_reason());
  }

 private:
  void on_source_needed() override {
    (void)watch().use_procfs(view_.table());  // the watch requests again after a failure
  }
  void prepare_dialing(std::vector<Listener>& listeners) override {
    mark_paths(listeners, kNoFiles);
    view_.mark_unreachable(listeners);
  }

  BridgeView view_;
};

}  // namespace portfwd
