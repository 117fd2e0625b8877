#include "kernel/sysctl.h"

#include <fstream>

namespace portfwd::sysctl {

PortRange ephemeral_ports() {
  std::ifstream in("/proc/sys/net/ipv4/ip_local_port_range");
  unsigned first = 0;
  unsigned last = 0;
  const bool read = static_cast<bool>(in >> first >> last);
  if (!read || first < 1 || last > 65535 || first > last) return {32768, 60999};
  return {static_cast<Port>(first), static_cast<Port>(last)};
}

Port first_unprivileged_port() {
  std::ifstream in("/proc/sys/net/ipv4/ip_unprivileged_port_start");
  unsigned value = 0;
  return in >> value && value <= 65535 ? static_cast<Port>(value) : Port{1024};
}

}  // namespace portfwd::sysctl
