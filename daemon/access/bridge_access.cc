#include "access/bridge_access.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "access/container_access.h"

namespace portfwd {

namespace {

bool has_family(const std::vector<IpAddress>& addresses, Family family) {
  return std::ranges::any_of(addresses, [&](const IpAddress& a) { return a.family() == family; });
}

/// Whether the host can dial the listener at one of the container's own addresses. Never for UDP:
/// the daemon must know that the container receives a datagram before it sends one of a client, and
/// nothing outside shows that. See BridgeDialer. Never for a Unix socket, which has no IP address.
bool reachable_from_outside(const Listener& listener, const std::vector<IpAddress>& addresses) {
  if (listener.protocol != Protocol::Tcp) return false;
  const IpAddress& bound = listener.local.ip().address;
  if (!bound.is_any()) return std::ranges::count(addresses, bound) != 0;
  const bool takes_v4 = bound.family() == Family::V4 || !listener.v6only;
  return has_family(addresses, bound.family()) || (takes_v4 && has_family(addresses, Family::V4));
}

std::string unreachable_reason(const Listener& listener) {
  if (listener.protocol == Protocol::Unix) {
    return "cannot dial an abstract name from outside its network";
  }
  if (listener.protocol == Protocol::Udp) {
    return "cannot verify from outside that the container receives UDP";
  }
  const IpAddress& bound = listener.local.ip().address;
  if (bound.is_any()) return "the container has no address that the host can dial";
  return fmt::format("cannot dial {} inside the container", bound.text());
}

}  // namespace

BridgeView::BridgeView(RelayContext& relay, BridgeDialer::Inside inside,
                       std::function<std::string()> hint, std::function<void()> on_address_due)
    : hint_(std::move(hint)),
      dialer_(relay, std::move(inside)),
      address_due_(relay.loop(), std::move(on_address_due)) {
  assert(hint_ != nullptr);
}

void BridgeView::mark_unreachable(std::vector<Listener>& listeners,
                                  const std::string& failure_text) {
  const std::vector<IpAddress> addresses = dialer_.addresses();
  bool lacks_address = false;
  std::string remedy;
  for (Listener& listener : listeners) {
    if (!listener.unreachable.empty() || reachable_from_outside(listener, addresses)) continue;
    if (remedy.empty()) remedy = hint_();
    const bool tcp = listener.protocol == Protocol::Tcp;
    lacks_address |= tcp && !listener.local.ip().address.is_loopback();
    listener.unreachable = fmt::format("{}{}; {}{}", unreachable_reason(listener),
                                       failure_text.empty() ? "" : ", and " + failure_text,
                                       tcp ? "let the server listen on 0.0.0.0, or " : "", remedy);
  }
  if (lacks_address) {
    address_due_.arm_after(kAddressCheckInterval);
  } else {
    address_due_.disarm();
  }
}

std::string BridgeView::no_socket_reason(const std::string& failure_text) const {
  return fmt::format("{}; {}", failure_text.empty() ? "cannot enter the container" : failure_text,
                     hint_());
}

BridgeAccess::BridgeAccess(const Parts& parts, RelayContext& relay, pid_t pid,
                           BridgeDialer::Inside inside)
    : NetnsAccess(parts, pid, 0),
      view_(
          relay, std::move(inside), [] { return std::string(kRunRootless); },
          [this] { update_listeners(); }) {
  assert(pid != 0);
}

}  // namespace portfwd
