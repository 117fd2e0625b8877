// An address of 127.0.0.0/8 for each container (allocation = "per-container"): the same one for the
// same name, whatever comes and goes. Owned by the ForwardTable; its entries outlive the daemon in
// the State, since which of two names came first decides when they would have the same address.
#pragma once

#include <string>
#include <vector>

#include "base/recent_map.h"
#include "state/state.h"

namespace portfwd {

class ContainerAddresses {
 public:
  static constexpr std::size_t kKept = 1024;

  struct Given {
    IpAddress address;
    bool news = false;  ///< it was made up just now
  };
  /// The container's address. Never of 127.0.0.0/16, where everybody's own servers are, nor of
  /// 127.255.0.0/16, and never with 0 or 255 at its end.
  [[nodiscard]] Given address_of(const std::string& container);

  [[nodiscard]] std::vector<ContainerAddress> all() const;
  /// Addresses that address_of() would not give, and second ones, are left out.
  void restore(const std::vector<ContainerAddress>& addresses);

 private:
  [[nodiscard]] bool taken(const IpAddress& address) const;

  RecentMap<std::string, IpAddress> addresses_{kKept};
};

}  // namespace portfwd
