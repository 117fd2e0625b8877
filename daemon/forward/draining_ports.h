// Ports that accept nobody any more and whose live connections may finish. Owned by the table that
// withdrew the forwards; it is told when one is done. Those whose listener closed by itself are
// leftovers: they have no limit while their container lives.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "relay/forward_port.h"

namespace portfwd {

class DrainingPorts {
 public:
  static constexpr Duration kNoLimit = Duration::max();

  explicit DrainingPorts(EventLoop& loop) : loop_(loop) {}

  /// @param port whose drain() has begun
  void add(std::unique_ptr<ForwardPort> port) { ports_.push_back({std::move(port), {}, false}); }
  /// One whose drain() has begun with kNoLimit. @param container the id, for limit()
  void add_leftover(std::unique_ptr<ForwardPort> port, std::string container) {
    ports_.push_back({std::move(port), std::move(container), true});
  }
  /// The leftovers of a container get a limit. @param container its id; nothing: of all containers
  void limit(const std::optional<std::string>& container, Duration limit) {
    for (Draining& draining : ports_) {
      if (!draining.leftover || (container && draining.container != *container)) continue;
      draining.leftover = false;
      draining.port->drain(limit);
    }
  }
  /// From within its on_drained().
  void remove(const ForwardPort& port) {
    const auto done =
        std::ranges::find(ports_, &port, [](const Draining& d) { return d.port.get(); });
    loop_.retire(std::move(done->port));
    ports_.erase(done);
  }
  [[nodiscard]] bool empty() const { return ports_.empty(); }
  /// Connections of leftovers.
  [[nodiscard]] std::size_t leftovers() const {
    std::size_t connections = 0;
    for (const Draining& draining : ports_) {
      if (draining.leftover) connections += draining.port->counters().active;
    }
    return connections;
  }

 private:
  struct Draining {
    std::unique_ptr<ForwardPort> port;
    std::string container;
    bool leftover = false;
  };

  EventLoop& loop_;
  std::vector<Draining> ports_;
};

}  // namespace portfwd
