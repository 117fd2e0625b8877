// The containers whose detected forwards count together against `max_forwards`: an engine's
// container with the sandboxes inside it, or all network namespaces below one user namespace, since
// whoever may make one there may make any number. Owned by the ForwardTable.
//
// States of a group: within the limit, or over it, which is told once, until none of its containers
// lacks a forward.
#pragma once

#include <map>
#include <set>
#include <span>
#include <string>

#include "discover/container.h"

namespace portfwd {

class ForwardGroups {
 public:
  struct Group {
    std::set<std::string> members;  ///< ids of containers
    std::set<std::string> over;     ///< those that lack a forward for the limit
    std::size_t automatic = 0;      ///< detected forwards that exist
  };

  Group& at(const std::string& key) { return groups_[key]; }
  /// Forgets it with its last member.
  void leave(const std::string& key, const std::string& container_id) {
    Group& group = groups_[key];
    group.members.erase(container_id);
    group.over.erase(container_id);
    if (group.members.empty()) groups_.erase(key);
  }

 private:
  std::map<std::string, Group> groups_;
};

/// The key of the container's group: the engine's container that it is, or whose cgroup it is in;
/// else the direct child of our user namespace that owns its network namespace, or contains the
/// owner; else the container alone. A process inside can change none of them.
/// @param engines containers of engines
[[nodiscard]] std::string group_of(const Container& container,
                                   std::span<const Container* const> engines);

}  // namespace portfwd
