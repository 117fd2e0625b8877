// The host port that a container's port had last, so that a listener which returns gets it again.
// Bounded: the one that was used longest ago is forgotten first.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "forward/state.h"

namespace portfwd {

class StickyPorts {
 public:
  static constexpr std::size_t kKept = 4096;
  /// By the container's name, since its id does not outlive it.
  using Key = std::pair<std::string, Target>;

  [[nodiscard]] std::optional<Port> recall(const Key& key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? std::nullopt : std::optional(found->second->second);
  }
  /// @return whether this is news: it was another one before, or none
  bool remember(const Key& key, Port port) {
    const bool news = recall(key) != port;
    if (const auto found = index_.find(key); found != index_.end()) by_age_.erase(found->second);
    by_age_.emplace_back(key, port);
    index_[key] = std::prev(by_age_.end());
    if (by_age_.size() > kKept) {
      index_.erase(by_age_.front().first);
      by_age_.pop_front();
    }
    return news;
  }

  [[nodiscard]] std::vector<StickyPort> all() const {
    std::vector<StickyPort> out;
    for (const auto& [key, port] : by_age_) out.push_back({key.first, key.second, port});
    return out;
  }
  void restore(const std::vector<StickyPort>& ports) {
    for (const StickyPort& p : ports) (void)remember({p.container, p.target}, p.host_port);
  }

 private:
  using Ages = std::list<std::pair<Key, Port>>;
  Ages by_age_;  ///< oldest first
  std::map<Key, Ages::iterator> index_;
};

}  // namespace portfwd
