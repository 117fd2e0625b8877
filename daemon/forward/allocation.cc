#include "forward/allocation.h"

#include <algorithm>
#include <fstream>

namespace portfwd {

namespace {

constexpr Port kPrivilegedOffset = 8000;

Port preferred_port(const HostPortPlan::Wish& wish) {
  if (wish.container_port >= wish.first_unprivileged) return wish.container_port;
  return static_cast<Port>(kPrivilegedOffset + wish.container_port);
}

}  // namespace

HostPortPlan::HostPortPlan(const Settings& settings, const Wish& wish)
    : settings_(settings),
      wish_(wish),
      preferred_(preferred_port(wish)),
      fallback_(settings.host.fallback_range.first) {}

bool HostPortPlan::allowed(Port port) const {
  return port >= wish_.first_unprivileged &&
         std::ranges::none_of(settings_.host.avoid,
                              [port](const PortRange& r) { return r.contains(port); });
}

std::optional<Port> HostPortPlan::next() {
  if (stage_ == Stage::Sticky) {
    stage_ = Stage::Preferred;
    if (wish_.sticky && allowed(*wish_.sticky)) return wish_.sticky;
  }
  if (stage_ == Stage::Preferred) {
    stage_ = Stage::Fallback;
    if (allowed(preferred_) && wish_.sticky != preferred_) return preferred_;
  }
  while (fallback_ <= settings_.host.fallback_range.last) {
    const Port port = static_cast<Port>(fallback_++);
    if (allowed(port) && port != preferred_ && wish_.sticky != port) return port;
  }
  return std::nullopt;
}

Port first_unprivileged_port() {
  std::ifstream in("/proc/sys/net/ipv4/ip_unprivileged_port_start");
  unsigned value = 0;
  return in >> value && value <= 65535 ? static_cast<Port>(value) : Port{1024};
}

}  // namespace portfwd
