#include "reach/shared_netns.h"

#include <algorithm>

namespace portfwd {

ContainerReach& SharedNetns::add(const Container& container) {
  return *members_.emplace_back(
      std::make_unique<ContainerReach>(container, way_.access.get(), way_.reason));
}

void SharedNetns::remove(const ContainerReach& reach) {
  std::erase_if(members_, [&](const auto& member) { return member.get() == &reach; });
}

void SharedNetns::deal() {
  if (!way_.access || members_.empty()) return;
  std::vector<std::vector<Listener>> hands(members_.size());
  for (const Listener& listener : way_.access->listeners()) {
    const auto owner = std::ranges::find_if(members_, [&](const auto& member) {
      const std::uint64_t cgroup = member->container().cgroup_id;
      return cgroup != 0 && cgroup == listener.cgroup_id;
    });
    const auto place = owner == members_.end() ? 0 : owner - members_.begin();
    hands[static_cast<std::size_t>(place)].push_back(listener);
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if (members_[i]->show(std::move(hands[i]))) observer_.on_listeners(*members_[i]);
  }
}

}  // namespace portfwd
