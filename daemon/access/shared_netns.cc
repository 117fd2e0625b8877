#include "access/shared_netns.h"

#include <algorithm>

#include "kernel/cgroup_folder.h"

namespace portfwd {
namespace {

/// Longer than two looks of discovery are apart.
constexpr Duration kTimeToClaim = std::chrono::milliseconds(150);

}  // namespace

NetnsMember& SharedNetns::add(const Container& container) {
  return *members_.emplace_back(
      std::make_unique<NetnsMember>(container, way_.access.get(), way_.reason));
}

void SharedNetns::remove(const NetnsMember& reach) {
  std::erase_if(makers_, [&](const auto& made) { return made.second == &reach; });
  std::erase_if(members_, [&](const auto& member) { return member.get() == &reach; });
}

void SharedNetns::deal() {
  if (!way_.access || members_.empty()) return;
  const Makers known = std::exchange(makers_, {});
  std::vector<std::vector<Listener>> hands(members_.size());
  for (const Listener& listener : way_.access->listeners()) {
    if (const auto owner = owner_of(listener, known)) hands[*owner].push_back(listener);
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    if (members_[i]->container().undecided && members_[i]->listeners().empty()) continue;
    if (members_[i]->show(std::move(hands[i]))) observer_.on_listeners(*members_[i]);
  }
}

/// @return which member; nothing while its container may be about to be found
std::optional<std::size_t> SharedNetns::owner_of(const Listener& listener, const Makers& known) {
  const std::uint64_t cgroup = listener.cgroup_id;
  const auto* maker = cgroup == 0 ? nullptr : maker_of(cgroup, known);
  const auto owner =
      std::ranges::find(members_, maker, [](const auto& member) { return member.get(); });
  if (owner != members_.end()) return static_cast<std::size_t>(owner - members_.begin());
  const Container& first = members_.front()->container();
  const bool comparable = cgroup != 0 && first.cgroup_id != 0 && !first.engine_id.empty();
  if (!comparable || unclaimed_.contains(cgroup)) return 0;
  if (waiting_.insert(cgroup).second && !claim_.armed()) claim_.arm_after(kTimeToClaim);
  return std::nullopt;
}

/// Whose cgroup it is, or else in whose folder it is, of which the innermost counts: a container
/// may be in another one. To look into folders costs, so what they showed is kept.
const NetnsMember* SharedNetns::maker_of(std::uint64_t cgroup, const Makers& known) {
  const NetnsMember* maker = nullptr;
  for (const auto& member : members_) {
    if (member->container().cgroup_id == cgroup) return member.get();
  }
  if (const auto found = known.find(cgroup); found != known.end()) {
    return makers_[cgroup] = found->second;
  }
  for (const auto& member : members_) {
    const std::string& folder = member->container().cgroup;
    const bool inner = maker == nullptr || folder.size() > maker->container().cgroup.size();
    if (inner && cgroup_holds(folder, cgroup)) maker = member.get();
  }
  if (maker != nullptr) makers_[cgroup] = maker;
  return maker;
}

void SharedNetns::end_waiting() {
  unclaimed_.merge(std::exchange(waiting_, {}));
  deal();
}

}  // namespace portfwd
