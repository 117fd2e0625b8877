// The plan of the forwards that one container should have: a pure function of its listeners, the
// requests, the existing forwards and the policy. Nothing here binds, dials, notifies or remembers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "access/listener.h"
#include "base/clock.h"
#include "forward/model.h"
#include "policy/policy.h"

namespace portfwd {

struct FirstSeen {
  TimePoint at{};
  WallTime wall{};
};

/// The times at which each listener of a container was first seen, for `settle` and for `explain`.
/// Part of the table's entry for that container.
class ListenerAges {
 public:
  /// @param listeners all present ones; the others are forgotten
  void update(const std::vector<Listener>& listeners, const FirstSeen& now) {
    std::vector<Known> next;
    next.reserve(listeners.size());
    for (const Listener& l : listeners) {
      const FirstSeen* before = find(l);
      next.push_back({key_of(l), before == nullptr ? now : *before});
    }
    std::ranges::sort(next, {}, &Known::key);
    known_ = std::move(next);
  }
  /// Null for a listener that was not in the last update.
  [[nodiscard]] const FirstSeen* find(const Listener& listener) const {
    const Key key = key_of(listener);
    const auto found = std::ranges::lower_bound(known_, key, {}, &Known::key);
    return found == known_.end() || found->key != key ? nullptr : &found->first;
  }

 private:
  /// The inode of the socket, which every source of listeners reports; else its cookie.
  using Key = std::pair<std::uint64_t, bool>;
  static Key key_of(const Listener& l) {
    return l.inode != 0 ? Key(l.inode, true) : Key(l.cookie, false);
  }
  struct Known {
    Key key;
    FirstSeen first;
  };

  std::vector<Known> known_;  ///< ordered by key
};

/// The key of a forward within its container.
using ForwardPlace = std::pair<Direction, Target>;

/// The desired state of one forward.
struct Wanted {
  std::vector<Listener> listeners;          ///< to dial; none: it waits, or leads to the host
  const ForwardRequest* request = nullptr;  ///< null for a detected forward; borrowed
  Treatment treatment;
};

struct Plan {
  std::map<ForwardPlace, Wanted> forwards;
  TimePoint settled = TimePoint::max();  ///< end of the next `settle` time
  bool over_limit = false;               ///< max_forwards leaves out at least one port
};

struct PlanInput {
  /// A forward that exists.
  struct Existing {
    ForwardPlace place;
    const Listener* last_listener = nullptr;  ///< null for a requested forward; borrowed
  };

  PolicyContext policy;
  const Container& container;
  const std::vector<Listener>& listeners;
  const ListenerAges& ages;            ///< of all the listeners
  const std::set<Target>& suppressed;  ///< ended by the user, with a live listener
  std::vector<const ForwardRequest*> requests;
  std::vector<Existing> existing;  ///< ordered by place
  std::size_t automatic = 0;       ///< detected forwards of its ForwardGroups group
  TimePoint now;
};

/// Requested forwards come first. Detected forwards that exist stay, even while they have no
/// listener; new ones follow in the order of their targets, up to max_forwards.
[[nodiscard]] Plan plan(const PlanInput& input);

/// The treatment of a requested forward: that of a detected one, but the request determines the
/// host addresses and the host port. @param container null while it is away @param listeners those
/// that the request is for; may be empty
[[nodiscard]] Treatment treatment_of(const PolicyContext& policy, const ForwardRequest& request,
                                     const Container* container,
                                     std::span<const Listener> listeners);

}  // namespace portfwd
