#include "access/outside.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

bool has_family(const std::vector<IpAddress>& addresses, Family family) {
  return std::ranges::any_of(addresses, [&](const IpAddress& a) { return a.family() == family; });
}

/// Whether the host can dial the listener at one of the container's own addresses. Where datagrams
/// end can't be seen, and must be before one of a client's is sent there.
bool shows_outside(const Listener& listener, const std::vector<IpAddress>& addresses) {
  const IpAddress& bound = listener.local.ip().address;
  if (listener.protocol == Protocol::Udp) return false;
  if (!bound.is_any()) return std::ranges::count(addresses, bound) != 0;
  const bool takes_v4 = bound.family() == Family::V4 || !listener.v6only;
  return has_family(addresses, bound.family()) || (takes_v4 && has_family(addresses, Family::V4));
}

std::string why_not(const Listener& listener) {
  const IpAddress& bound = listener.local.ip().address;
  if (listener.protocol == Protocol::Udp) {
    return "UDP can't be seen to end in the container from outside";
  }
  if (bound.is_any()) return "the container has no address that the host could dial";
  return fmt::format("{} inside can't be dialled from outside", bound.text());
}

}  // namespace

void Outside::mark(std::vector<Listener>& listeners, const std::string& trouble) {
  const std::vector<IpAddress> addresses = dialer_.addresses();
  bool lacks_address = false;
  std::string remedy;
  for (Listener& listener : listeners) {
    if (shows_outside(listener, addresses)) continue;
    if (remedy.empty()) remedy = way_in_();
    const bool tcp = listener.protocol == Protocol::Tcp;
    lacks_address |= tcp && !listener.local.ip().address.is_loopback();
    listener.unreachable =
        fmt::format("{}{}: {}{}", why_not(listener), trouble.empty() ? "" : ", and " + trouble,
                    tcp ? "let the server listen on 0.0.0.0, or " : "", remedy);
  }
  if (lacks_address) {
    again_.arm_after(kAddressPause);
  } else {
    again_.disarm();
  }
}

std::string Outside::closed(const std::string& trouble) const {
  return fmt::format("{}: {}", trouble.empty() ? "the container can't be entered" : trouble,
                     way_in_());
}

}  // namespace portfwd
