#include "reach/bridge_access.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

bool has_family(const std::vector<IpAddress>& addresses, Family family) {
  return std::ranges::any_of(addresses, [&](const IpAddress& a) { return a.family() == family; });
}

/// Whether the host can dial the listener at one of the container's own addresses.
bool shows_outside(const Listener& listener, const std::vector<IpAddress>& addresses) {
  const IpAddress& bound = listener.local.address;
  if (!bound.is_any()) return std::ranges::count(addresses, bound) != 0;
  const bool takes_v4 = bound.family() == Family::V4 || !listener.v6only;
  return has_family(addresses, bound.family()) || (takes_v4 && has_family(addresses, Family::V4));
}

}  // namespace

BridgeAccess::BridgeAccess(const Parts& parts, RelayContext& relay, pid_t pid,
                           BridgeDialer::Inside inside, std::string remedy)
    : Access(parts, pid, 0),
      remedy_(std::move(remedy)),
      dialer_(relay, std::move(inside)),
      look_again_(relay.loop(), [this] { reconsider(); }) {}

void BridgeAccess::need_diag(PortWatch& watch) {
  (void)watch.use_procfs();  // on a failure it asks again
}

void BridgeAccess::prepare(std::vector<Listener>& now) {
  const std::vector<IpAddress> addresses = dialer_.addresses();
  bool lacks_address = false;
  for (Listener& listener : now) {
    if (shows_outside(listener, addresses)) continue;
    const IpAddress& bound = listener.local.address;
    lacks_address |= !bound.is_loopback();
    listener.unreachable =
        bound.is_any()
            ? "the container has no address that the host could dial: " + remedy_
            : fmt::format("{} inside can't be dialled from outside: {}", bound.text(), remedy_);
  }
  if (lacks_address) {
    look_again_.arm_after(kAddressPause);
  } else {
    look_again_.disarm();
  }
}

}  // namespace portfwd
