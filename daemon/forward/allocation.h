// Which host port a forward gets: the order in which ports are tried, as a pure sequence. The bind
// itself is the reservation, so nothing here asks whether a port is free.
#pragma once

#include <optional>

#include "base/endpoint.h"
#include "config/settings.h"

namespace portfwd {

/// The host ports worth trying for one container port, best first, each once.
class HostPortPlan {
 public:
  struct Wish {
    Port container_port = 0;
    std::optional<Port> sticky;      ///< what it had before
    Port first_unprivileged = 1024;  ///< net.ipv4.ip_unprivileged_port_start
  };
  /// @param settings borrowed while the plan is used
  HostPortPlan(const Settings& settings, const Wish& wish);

  /// The next one to try; nothing when the fall-back range is used up.
  [[nodiscard]] std::optional<Port> next();
  /// The one that a person would expect: the same number, or 8000 + N for a privileged one.
  [[nodiscard]] Port preferred() const { return preferred_; }

 private:
  enum class Stage : std::uint8_t { Sticky, Preferred, Fallback };
  [[nodiscard]] bool allowed(Port port) const;

  const Settings& settings_;
  Wish wish_;
  Port preferred_;
  Stage stage_ = Stage::Sticky;
  std::uint32_t fallback_;  ///< the next of the range; wider than Port so that 65535 can be passed
};

/// Reads net.ipv4.ip_unprivileged_port_start; 1024 when it can't be read. Source: ip(7).
[[nodiscard]] Port first_unprivileged_port();

}  // namespace portfwd
