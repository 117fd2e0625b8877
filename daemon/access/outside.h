// What is to be had of a network namespace without entering it: a dialer for the container's own
// addresses, and which of its listeners that reaches. Owned by a NetnsAccess.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "access/watcher.h"
#include "event/event_loop.h"
#include "relay/bridge_dialer.h"

namespace portfwd {

class Outside {
 public:
  /// How often it is looked whether an address has come for what could not be dialled.
  static constexpr Duration kAddressPause = std::chrono::seconds(2);

  /// What would let us in, as a sentence's end.
  using WayIn = std::function<std::string()>;

  /// @param way_in asked when some listener can't be dialled
  /// @param again called from the loop when it is time to mark the listeners anew
  Outside(RelayContext& relay, BridgeDialer::Inside inside, WayIn way_in,
          std::function<void()> again)
      : way_in_(std::move(way_in)),
        dialer_(relay, std::move(inside)),
        again_(relay.loop(), std::move(again)) {}

  [[nodiscard]] BridgeDialer& dialer() { return dialer_; }
  [[nodiscard]] Result<ProcNetSockets> table() const { return dialer_.table(); }
  /// Says of each listener that can't be dialled from here why not.
  /// @param trouble what else has failed, as a sentence's beginning, or ""
  void mark(std::vector<Listener>& listeners, const std::string& trouble = "");
  /// Why no socket of ours can be made inside.
  [[nodiscard]] std::string closed(const std::string& trouble = "") const;
  /// There is a better way now.
  void retire() { again_.disarm(); }

 private:
  WayIn way_in_;
  BridgeDialer dialer_;
  Timer again_;
};

/// Docker's resolver inside of containers; its address is nobody else's business.
inline constexpr IpAddress kEnginesResolver = IpAddress::v4(127, 0, 0, 11);

}  // namespace portfwd
