// One network namespace and the containers in it: a pod's share one, most have one for themselves.
// It has one access for all of them and deals out the listeners: each belongs to the container
// whose cgroup, or one below that, made it, else to the namespace's first. Owned by the AccessSet.
//
// A server may listen before discovery has seen its container. So what the cgroup of a stranger
// made in an engine's namespace is kept back for a moment, once: its container may be about to be
// found.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "access/netns_member.h"
#include "event/event_loop.h"

namespace portfwd {

class SharedNetns final : private NetnsAccessObserver {
 public:
  /// How the namespace is entered, or why it can't be.
  struct Way {
    std::unique_ptr<NetnsAccess> access;  ///< null: there is none
    std::string reason;
  };
  using Open = std::function<Way(NetnsAccessObserver& observer)>;

  /// @param observer borrowed; hears of listeners only
  SharedNetns(EventLoop& loop, AccessObserver& observer, const Open& open)
      : observer_(observer), way_(open(*this)), claim_(loop, [this] { end_waiting(); }) {}

  /// @param container borrowed until removed. Its listeners are dealt by the next deal().
  NetnsMember& add(const Container& container);
  void remove(const NetnsMember& reach);
  /// Whether what was open at the start is dealt out (or can't be known).
  [[nodiscard]] bool settled() const {
    const auto undecided = [](const auto& member) { return member->container().undecided; };
    return !claim_.armed() && (!way_.access || way_.access->settled()) &&
           std::ranges::none_of(members_, undecided);
  }
  void renew_source() {
    if (way_.access) way_.access->renew_source();
  }
  [[nodiscard]] bool empty() const { return members_.empty(); }

  /// Who is a member, or a member's cgroup, is not what it was.
  void deal();

 private:
  void on_listeners(NetnsAccess&) override { deal(); }
  using Makers = std::map<std::uint64_t, const NetnsMember*>;  ///< by a cgroup's number

  [[nodiscard]] std::optional<std::size_t> owner_of(const Listener& listener, const Makers& known);
  [[nodiscard]] const NetnsMember* maker_of(std::uint64_t cgroup, const Makers& known);
  void end_waiting();

  AccessObserver& observer_;
  Way way_;
  std::vector<std::unique_ptr<NetnsMember>> members_;  ///< as they came
  Makers makers_;                                      ///< of the listeners that were dealt last
  std::set<std::uint64_t> waiting_;                    ///< cgroups that somebody may yet claim
  std::set<std::uint64_t> unclaimed_;                  ///< that nobody has claimed in time
  Timer claim_;
};

}  // namespace portfwd
