// The host ports that our own forwards hold, so that the search for a free one skips them without a
// system call. Owned by the ForwardTable; forwards are borrowed while they hold a port.
#pragma once

#include <set>
#include <tuple>
#include <vector>

#include "forward/host_forward.h"

namespace portfwd {

class HeldPorts {
 public:
  void add(const HostForward& forward) { held_.insert(key_of(forward)); }
  void remove(const HostForward& forward) { held_.erase(key_of(forward)); }

  /// The forward that keeps everybody else off the endpoint; null when none of ours does.
  [[nodiscard]] const HostForward* holder(Protocol protocol, const Endpoint& endpoint) const {
    for (auto it = held_.lower_bound({protocol, endpoint.port, nullptr}); it != held_.end(); ++it) {
      const auto& [its_protocol, port, forward] = *it;
      if (its_protocol != protocol || port != endpoint.port) break;
      if (forward->holds(endpoint)) return forward;
    }
    return nullptr;
  }
  /// Whether any of ours has this host port, at whatever address.
  [[nodiscard]] bool has(Protocol protocol, Port port) const {
    const auto it = held_.lower_bound({protocol, port, nullptr});
    return it != held_.end() && std::get<0>(*it) == protocol && std::get<1>(*it) == port;
  }

 private:
  using Key = std::tuple<Protocol, Port, const HostForward*>;
  static Key key_of(const HostForward& forward) {
    return {forward.protocol(), forward.host_port(), &forward};
  }

  std::set<Key> held_;
};

}  // namespace portfwd
