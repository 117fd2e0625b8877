// What is to be had of a network namespace without entering it: a dialer for the container's own
// addresses, and which of its listeners that reaches. Owned by an Access.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "event/event_loop.h"
#include "relay/bridge_dialer.h"
#include "watch/watcher.h"

namespace portfwd {

class Outside {
 public:
  /// How often it is looked whether an address has come for what could not be dialled.
  static constexpr Duration kAddressPause = std::chrono::seconds(2);

  /// @param remedy what would make all of it reachable, as a sentence's end
  /// @param again called from the loop when it is time to mark the listeners anew
  Outside(RelayContext& relay, BridgeDialer::Inside inside, std::string remedy,
          std::function<void()> again)
      : remedy_(std::move(remedy)),
        dialer_(relay, std::move(inside)),
        again_(relay.loop(), std::move(again)) {}

  [[nodiscard]] BridgeDialer& dialer() { return dialer_; }
  /// Says of each listener that can't be dialled from here why not.
  /// @param trouble what else has failed, as a sentence's beginning, or ""
  void mark(std::vector<Listener>& listeners, const std::string& trouble = "");
  /// There is a better way now.
  void retire() { again_.disarm(); }

 private:
  std::string remedy_;
  BridgeDialer dialer_;
  Timer again_;
};

/// Docker's resolver inside of containers; its address is nobody else's business.
inline constexpr IpAddress kEnginesResolver = IpAddress::v4(127, 0, 0, 11);

}  // namespace portfwd
