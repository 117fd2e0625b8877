// Where the search for a free port of the fall-back range goes on, for each protocol and set of
// host addresses: the ports before it were taken when they were last tried. Owned by the
// ForwardTable. A port that one of our own forwards gives up takes the cursor back; so that ports
// which others give up are found too, the search begins anew every kRewind.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "config/settings.h"
#include "net/endpoint.h"

namespace portfwd {

class FallbackCursors {
 public:
  static constexpr Duration kRewind = std::chrono::seconds(10);
  using Place = std::pair<Protocol, std::vector<IpAddress>>;

  /// The first port of `range` worth trying; range.last + 1 when none is.
  [[nodiscard]] std::uint32_t position(const Place& place, const PortRange& range, TimePoint now) {
    Cursor& cursor = cursors_[place];
    if (cursor.rewound + kRewind <= now || cursor.next < range.first) {
      cursor = {range.first, now};
    }
    return cursor.next;
  }
  /// All ports before `next` are taken.
  void advance(const Place& place, std::uint32_t next) {
    std::uint32_t& at = cursors_[place].next;
    at = std::max(at, next);
  }
  void port_freed(Port port, const PortRange& range) {
    if (port < range.first || port > range.last) return;
    for (auto& [place, cursor] : cursors_) cursor.next = std::min<std::uint32_t>(cursor.next, port);
  }
  /// Other settings: nothing is known any more.
  void clear() { cursors_.clear(); }

 private:
  struct Cursor {
    std::uint32_t next = 0;
    TimePoint rewound = TimePoint::min();
  };
  std::map<Place, Cursor> cursors_;
};

}  // namespace portfwd
