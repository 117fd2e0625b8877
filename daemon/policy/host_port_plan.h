// Which host port a forward gets: the order in which ports are tried, as a pure sequence. The bind
// itself is the reservation, so nothing here asks whether a port is free.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "config/settings.h"
#include "net/endpoint.h"

namespace portfwd {

/// The first that other machines can reach; null when all are loopback addresses.
[[nodiscard]] const IpAddress* remote_address(std::span<const IpAddress> addresses);

/// The host ports worth trying for one container port, best first, each once.
class HostPortPlan {
 public:
  struct Wish {
    Port container_port = 0;
    std::optional<Port> sticky;       ///< what it had before
    std::optional<Port> asked;        ///< by a person, who needs not heed `avoid`
    bool only_preferred = false;      ///< no other than preferred()
    Port first_unprivileged = 1024;   ///< net.ipv4.ip_unprivileged_port_start
    std::uint32_t fallback_from = 0;  ///< those of the range below it are known to be taken
  };
  /// @param settings borrowed while the plan is used
  HostPortPlan(const Settings& settings, const Wish& wish);

  /// The next one to try; nothing when the fall-back range is used up.
  [[nodiscard]] std::optional<Port> next();
  /// Where next() goes on in the fall-back range: one more than what it gave from there.
  [[nodiscard]] std::uint32_t fallback_next() const { return fallback_; }
  /// The one that a person would expect: what was asked for, else the same number, or 8000 + N for
  /// a privileged one.
  [[nodiscard]] Port preferred() const { return preferred_; }

 private:
  void offer(Port port);
  [[nodiscard]] bool allowed(Port port) const;
  [[nodiscard]] bool offered(Port port) const;

  const Settings& settings_;
  Wish wish_;
  Port preferred_;
  std::vector<Port> first_;  ///< what comes before the range; each once
  std::size_t next_ = 0;     ///< of first_
  std::uint32_t fallback_;   ///< the next of the range; wider than Port so that 65535 can be passed
};

}  // namespace portfwd
