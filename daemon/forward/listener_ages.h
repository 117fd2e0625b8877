// When each listener of a container was first seen, for `settle` and for `explain`. A part of the
// table's entry for that container.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "access/listener.h"
#include "base/clock.h"

namespace portfwd {

struct FirstSeen {
  TimePoint at{};
  WallTime wall{};
};

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

}  // namespace portfwd
