// Which UDP sockets count as listeners. Owned by the AccessSet, which is told by the controller
// what the configuration and the forwards ask for; every watch borrows it and compares at each
// look.
//
// A UDP socket that waits for anybody and one that has asked somebody a question look the same to
// the kernel: bound and not connected. Clients take their ports from the ephemeral range, so what
// is in there is left out unless somebody names it.
#pragma once

#include "config/port_range.h"

namespace portfwd {

struct UdpInterest {
  bool wanted = false;  ///< false: none is looked for
  PortRange ephemeral{32768, 60999};
  PortRanges named;  ///< looked for even so

  [[nodiscard]] bool covers(Port port) const {
    return wanted && (!ephemeral.contains(port) || contains(named, port));
  }
  friend bool operator==(const UdpInterest&, const UdpInterest&) = default;
};

}  // namespace portfwd
