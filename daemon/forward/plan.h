// Which forwards one container should have: a pure function of what listens in it, what was asked
// for, what is there already, and the policy. Nothing here binds, dials, notifies or remembers.
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

/// When each listener of a container was first seen, for `settle` and for `explain`. A part of the
/// table's entry for that container.
class ListenerAges {
 public:
  /// @param listeners all there are now; the others are forgotten
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
  /// Null for one that was not there at the last update.
  [[nodiscard]] const FirstSeen* find(const Listener& listener) const {
    const Key key = key_of(listener);
    const auto found = std::ranges::lower_bound(known_, key, {}, &Known::key);
    return found == known_.end() || found->key != key ? nullptr : &found->first;
  }

 private:
  /// The socket's inode, which each source of listeners tells; its cookie where there is none.
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

/// What a forward of a given container ties.
using ForwardPlace = std::pair<Direction, Target>;

/// How a forward should be.
struct Wanted {
  std::vector<Listener> listeners;  ///< that it leads to; none: it waits, or leads to the host
  const ForwardRequest* request = nullptr;  ///< null for a detected one; borrowed
  Treatment treatment;
};

struct Plan {
  std::map<ForwardPlace, Wanted> forwards;
  TimePoint settled = TimePoint::max();  ///< when the next listener has lived long enough
  bool over_limit = false;               ///< more ports could be forwarded than may be
};

struct PlanInput {
  /// A forward that exists.
  struct Existing {
    ForwardPlace place;
    const Listener* last_listener = nullptr;  ///< of a detected one, else null; borrowed
  };

  PolicyContext policy;
  const Container& container;
  const std::vector<Listener>& listeners;
  const ListenerAges& ages;            ///< of all the listeners
  const std::set<Target>& suppressed;  ///< what a person ended while its listener lives
  std::vector<const ForwardRequest*> requests;
  std::vector<Existing> existing;  ///< ordered by place
  std::size_t automatic = 0;       ///< detected forwards that count together with the container's
  TimePoint now;
};

/// What was asked for comes first. Of what is detected, forwards that exist stay, also while their
/// listener is gone; of new ones the lowest ports come first, up to max_forwards.
[[nodiscard]] Plan plan(const PlanInput& input);

/// What was asked for is treated as if it had been detected, but where it is on the host is for the
/// one who asked to say. @param container null while it is away @param listeners that are meant;
/// none while it waits
[[nodiscard]] Treatment treatment_of(const PolicyContext& policy, const ForwardRequest& request,
                                     const Container* container,
                                     std::span<const Listener> listeners);

}  // namespace portfwd
