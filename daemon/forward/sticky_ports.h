// The host port that a container's port had last, so that a listener which returns gets it again.
// Owned by the ForwardTable; its entries outlive the daemon in the State.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/recent_map.h"
#include "forward/state.h"

namespace portfwd {

class StickyPorts {
 public:
  static constexpr std::size_t kKept = 1024;
  /// By the container's name, since its id does not outlive it.
  using Key = std::pair<std::string, Target>;

  [[nodiscard]] std::optional<Port> recall(const Key& key) const {
    const Port* port = ports_.find(key);
    return port == nullptr ? std::nullopt : std::optional(*port);
  }
  /// @return whether this is news: it was another one before, or none
  bool remember(const Key& key, Port port) { return ports_.put(key, port); }

  [[nodiscard]] std::vector<StickyPort> all() const {
    std::vector<StickyPort> out;
    for (const auto& [key, port] : ports_.entries()) out.push_back({key.first, key.second, port});
    return out;
  }
  void restore(const std::vector<StickyPort>& ports) {
    for (const StickyPort& p : ports) (void)remember({p.container, p.target}, p.host_port);
  }

 private:
  RecentMap<Key, Port> ports_{kKept};
};

}  // namespace portfwd
