#include "policy/host_port_plan.h"

#include <algorithm>

namespace portfwd {

namespace {

constexpr Port kPrivilegedOffset = 8000;

Port preferred_port(const HostPortPlan::Wish& wish) {
  if (wish.asked) return *wish.asked;
  if (wish.container_port >= wish.first_unprivileged) return wish.container_port;
  return static_cast<Port>(kPrivilegedOffset + wish.container_port);
}

}  // namespace

const IpAddress* remote_address(std::span<const IpAddress> addresses) {
  const auto remote = std::ranges::find_if_not(addresses, &IpAddress::is_loopback);
  return remote == addresses.end() ? nullptr : &*remote;
}

HostPortPlan::HostPortPlan(const Settings& settings, const Wish& wish)
    : settings_(settings),
      wish_(wish),
      preferred_(preferred_port(wish)),
      fallback_(std::max<std::uint32_t>(settings.host.fallback_range.first, wish.fallback_from)) {
  if (wish.asked) first_.push_back(*wish.asked);
  if (wish.sticky && !wish.only_preferred) offer(*wish.sticky);
  offer(preferred_);
}

/// One that nobody asked for by its number.
void HostPortPlan::offer(Port port) {
  if (allowed(port) && !offered(port)) first_.push_back(port);
}

bool HostPortPlan::offered(Port port) const {
  return std::ranges::find(first_, port) != first_.end();
}

bool HostPortPlan::allowed(Port port) const {
  return port >= wish_.first_unprivileged && !contains(settings_.host.avoid, port);
}

std::optional<Port> HostPortPlan::next() {
  if (next_ < first_.size()) return first_[next_++];
  if (wish_.only_preferred) return std::nullopt;
  while (fallback_ <= settings_.host.fallback_range.last) {
    const Port port = static_cast<Port>(fallback_++);
    if (allowed(port) && !offered(port)) return port;
  }
  return std::nullopt;
}

}  // namespace portfwd
