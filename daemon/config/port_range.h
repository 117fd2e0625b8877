// Ranges of ports, as in "5000-6000".
#pragma once

#include <string>
#include <vector>

#include "net/endpoint.h"

namespace portfwd {

struct PortRange {
  Port first = 1;
  Port last = 65535;  ///< not below `first`
  [[nodiscard]] bool contains(Port p) const { return first <= p && p <= last; }
  [[nodiscard]] std::string text() const {
    return first == last ? std::to_string(first)
                         : std::to_string(first) + "-" + std::to_string(last);
  }
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

using PortRanges = std::vector<PortRange>;

[[nodiscard]] inline bool contains(const PortRanges& ranges, Port port) {
  for (const PortRange& range : ranges) {
    if (range.contains(port)) return true;
  }
  return false;
}

}  // namespace portfwd
