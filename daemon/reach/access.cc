#include "reach/access.h"

#include <utility>

namespace portfwd {

Access::Access(const Parts& parts, pid_t pid, std::uint64_t netns)
    : names_(parts.names),
      observer_(parts.observer),
      netns_(netns),
      watch_(parts.watching, *this, *this, pid, netns) {}

void Access::on_listeners(Watcher&) {
  reconsider();
}

void Access::reconsider() {
  std::vector<Listener> now = watch_.listeners();
  names_.name_new(netns_, listeners_, now);
  prepare(now);
  listeners_ = std::move(now);
  observer_.on_listeners(*this);
}

}  // namespace portfwd
