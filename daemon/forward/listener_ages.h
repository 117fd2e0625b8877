// When each listener of a container was first seen, for `settle` and for `explain`. A part of the
// table's entry for that container.
#pragma once

#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "access/watcher.h"
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
    std::map<Key, FirstSeen> next;
    for (const Listener& l : listeners) {
      const auto known = first_.find(key_of(l));
      next.emplace(key_of(l), known == first_.end() ? now : known->second);
    }
    first_ = std::move(next);
  }
  /// Null for one that was not there at the last update.
  [[nodiscard]] const FirstSeen* find(const Listener& listener) const {
    const auto found = first_.find(key_of(listener));
    return found == first_.end() ? nullptr : &found->second;
  }

 private:
  /// By the inode, which each source of listeners tells; its cookie where there is none.
  using Key = std::tuple<std::uint64_t, std::uint32_t, Protocol, Address>;
  static Key key_of(const Listener& l) {
    return {l.inode != 0 ? 0 : l.cookie, l.inode, l.protocol, l.local};
  }

  std::map<Key, FirstSeen> first_;
};

}  // namespace portfwd
