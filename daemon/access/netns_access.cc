#include "access/netns_access.h"

#include <utility>

namespace portfwd {

NetnsAccess::NetnsAccess(const Parts& parts, pid_t pid, std::uint64_t netns)
    : observer_(parts.observer),
      names_(parts.watching.loop, parts.names, netns, [this] { reconsider(); }),
      watch_(parts.watching, *this, *this, pid, netns) {}

void NetnsAccess::on_listeners(Watcher&) {
  reconsider();
}

void NetnsAccess::reconsider() {
  std::vector<Listener> now = names_.name(watch_.listeners());
  prepare(now);
  listeners_ = std::move(now);
  observer_.on_listeners(*this);
}

}  // namespace portfwd
