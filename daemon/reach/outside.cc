#include "reach/outside.h"

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

void Outside::mark(std::vector<Listener>& listeners, const std::string& trouble) {
  const std::vector<IpAddress> addresses = dialer_.addresses();
  bool lacks_address = false;
  std::string remedy;
  for (Listener& listener : listeners) {
    if (shows_outside(listener, addresses)) continue;
    if (remedy.empty()) remedy = "let the server listen on 0.0.0.0, or " + way_in_();
    const IpAddress& bound = listener.local.address;
    lacks_address |= !bound.is_loopback();
    const std::string what =
        bound.is_any() ? "the container has no address that the host could dial"
                       : fmt::format("{} inside can't be dialled from outside", bound.text());
    listener.unreachable =
        fmt::format("{}{}: {}", what, trouble.empty() ? "" : ", and " + trouble, remedy);
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
