// The host port that a container's port had last, so that a listener which returns gets it again.
// Bounded: the one that was used longest ago is forgotten first.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "base/endpoint.h"

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
  void remember(const Key& key, Port port) {
    if (const auto found = index_.find(key); found != index_.end()) by_age_.erase(found->second);
    by_age_.emplace_back(key, port);
    index_[key] = std::prev(by_age_.end());
    if (by_age_.size() > kKept) {
      index_.erase(by_age_.front().first);
      by_age_.pop_front();
    }
  }

 private:
  using Ages = std::list<std::pair<Key, Port>>;
  Ages by_age_;  ///< oldest first
  std::map<Key, Ages::iterator> index_;
};

}  // namespace portfwd
