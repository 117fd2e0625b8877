// The host port that a container's port had last, so that a listener which returns gets it again.
// Owned by the ForwardTable; its entries outlive the daemon in the State.
#pragma once

#include <memory_resource>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/recent_map.h"
#include "state/state.h"

namespace portfwd {

class StickyPorts {
 public:
  static constexpr std::size_t kKept = 2048;
  using Names = std::vector<std::string>;  ///< see lasting_names()

  /// @return what is remembered under the first of the names that is known
  [[nodiscard]] std::optional<Port> recall(const Names& names, const Target& target) const {
    for (const std::string& name : names) {
      if (const Port* port = ports_.find(key(name, target))) return *port;
    }
    return std::nullopt;
  }
  /// Under all of the names. @return whether this is news: it was another one before, or none
  bool remember(const Names& names, const Target& target, Port port) {
    bool news = false;
    for (const std::string& name : names) news |= ports_.put(key(name, target), port);
    return news;
  }

  [[nodiscard]] std::vector<StickyPort> all() const {
    std::vector<StickyPort> out;
    for (const auto& [key, port] : ports_.entries())
      out.push_back({std::string(key.first), key.second, port});
    return out;
  }
  void restore(const std::vector<StickyPort>& ports) {
    for (const StickyPort& p : ports) (void)remember({p.container}, p.target, p.host_port);
  }

 private:
  using Key = std::pair<std::pmr::string, Target>;
  static Key key(const std::string& name, const Target& target) {
    return {std::pmr::string(name), target};
  }

  RecentMap<Key, Port> ports_{kKept};
};

}  // namespace portfwd
