#include "reach/shared_netns.h"

#include <algorithm>

namespace portfwd {
namespace {

/// Longer than two looks of discovery are apart.
constexpr Duration kTimeToClaim = std::chrono::milliseconds(150);

}  // namespace

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
    if (const auto owner = owner_of(listener)) hands[*owner].push_back(listener);
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if (members_[i]->show(std::move(hands[i]))) observer_.on_listeners(*members_[i]);
  }
}

/// @return which member; nothing while its container may be about to be found
std::optional<std::size_t> SharedNetns::owner_of(const Listener& listener) {
  const std::uint64_t cgroup = listener.cgroup_id;
  const auto owner = std::ranges::find_if(members_, [cgroup](const auto& member) {
    return cgroup != 0 && member->container().cgroup_id == cgroup;
  });
  if (owner != members_.end()) return static_cast<std::size_t>(owner - members_.begin());
  const Container& first = members_.front()->container();
  const bool comparable = cgroup != 0 && first.cgroup_id != 0 && !first.engine_id.empty();
  if (!comparable || unclaimed_.contains(cgroup)) return 0;
  if (waiting_.insert(cgroup).second && !claim_.armed()) claim_.arm_after(kTimeToClaim);
  return std::nullopt;
}

void SharedNetns::end_waiting() {
  unclaimed_.merge(std::exchange(waiting_, {}));
  deal();
}

}  // namespace portfwd
