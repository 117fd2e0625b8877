#include "access/netns_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "access/bridge_access.h"
#include "kernel/cgroup_folder.h"

namespace portfwd {

namespace {

/// Longer than the time between two scans of discovery.
constexpr Duration kOwnerGracePeriod = std::chrono::milliseconds(150);

std::string reason_for(const std::vector<Listener>& listeners) {
  for (const Listener& l : listeners) {
    if (l.unreachable.empty() || l.local.ip().address == kEngineResolver) continue;
    return fmt::format("port {} is not reached: {}", l.local.ip().port, l.unreachable);
  }
  return {};
}

}  // namespace

NetnsAccess::NetnsAccess(const Parts& parts, pid_t pid, std::uint64_t netns)
    : observer_(parts.observer),
      modules_(parts.watching.modules),
      grace_period_(parts.watching.loop, [this] { end_grace_period(); }),
      names_(parts.watching.loop, parts.names, netns, [this] { update_listeners(); }),
      watch_(parts.watching, *this, pid, netns) {}

NetnsAccess::~NetnsAccess() {
  assert(members_.empty());
}

std::unique_ptr<NetnsMember> NetnsAccess::add(const Container& container) {
  auto member = std::make_unique<NetnsMember>(container, *this);
  members_.push_back(member.get());
  return member;
}

void NetnsAccess::remove(const NetnsMember& member) {
  assert(std::ranges::count(members_, &member) == 1);
  std::erase_if(makers_, [&](const auto& made) { return made.second == &member; });
  std::erase(members_, &member);
}

bool NetnsAccess::settled() const {
  const auto undecided = [](const auto* member) { return member->container().undecided; };
  return !grace_period_.armed() && watch_.settled() && names_.settled() &&
         std::ranges::none_of(members_, undecided);
}

void NetnsAccess::update_listeners() {
  std::vector<Listener> now = names_.name(watch_.listeners());
  assert(std::ranges::is_sorted(now));
  prepare_dialing(now);
  listeners_ = std::move(now);
  distribute_listeners();
}

void NetnsAccess::distribute_listeners() {
  if (members_.empty()) return;
  const Makers known = std::exchange(makers_, {});
  std::vector<std::vector<Listener>> by_container(members_.size());
  for (const Listener& listener : listeners_) {
    if (const auto owner = owner_of(listener, known)) by_container[*owner].push_back(listener);
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    NetnsMember& member = *members_[i];
    if (member.container().undecided && member.listeners().empty()) continue;
    if (member.set_listeners(std::move(by_container[i]))) observer_.on_listeners(member);
    assert(i < members_.size() && members_[i] == &member);  // an observer must remove none
  }
}

/// @return the index of the member; nothing while its container may be about to be found
std::optional<std::size_t> NetnsAccess::owner_of(const Listener& listener, const Makers& known) {
  assert(!members_.empty());
  const std::uint64_t cgroup = listener.cgroup_id;
  const auto* maker = cgroup == 0 ? nullptr : maker_of(cgroup, known);
  const auto owner = std::ranges::find(members_, maker);
  if (owner != members_.end()) return static_cast<std::size_t>(owner - members_.begin());
  const Container& first = members_.front()->container();
  const bool comparable = cgroup != 0 && first.cgroup_id != 0 && !first.engine_id.empty();
  if (!comparable || unclaimed_.contains(cgroup)) return 0;
  if (awaited_.insert(cgroup).second && !grace_period_.armed()) {
    grace_period_.arm_after(kOwnerGracePeriod);
  }
  return std::nullopt;
}

/// The member with this cgroup, else the member with the innermost folder that holds it, as a
/// container may be in another one. Searching folders costs, so the results are kept.
const NetnsMember* NetnsAccess::maker_of(std::uint64_t cgroup, const Makers& known) {
  assert(cgroup != 0);
  for (const NetnsMember* member : members_) {
    if (member->container().cgroup_id == cgroup) return member;
  }
  if (const auto found = known.find(cgroup); found != known.end()) {
    return makers_[cgroup] = found->second;
  }
  const NetnsMember* maker = nullptr;
  for (const NetnsMember* member : members_) {
    const std::string& folder = member->container().cgroup;
    const bool inner = maker == nullptr || folder.size() > maker->container().cgroup.size();
    if (inner && cgroup_holds(folder, cgroup)) maker = member;
  }
  if (maker != nullptr) makers_[cgroup] = maker;
  return maker;
}

void NetnsAccess::end_grace_period() {
  unclaimed_.merge(std::exchange(awaited_, {}));
  distribute_listeners();
}

bool NetnsMember::set_listeners(std::vector<Listener> listeners) {
  assert(std::ranges::is_sorted(listeners));
  const bool other_kind = std::exchange(reported_kind_, kind()) != kind();
  if (listeners == listeners_ && !other_kind) return false;
  listeners_ = std::move(listeners);
  ever_listened_ |= !listeners_.empty();
  reason_ = reason_for(listeners_);
  return true;
}

}  // namespace portfwd
