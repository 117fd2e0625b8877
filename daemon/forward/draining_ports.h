// Ports that accept nobody any more and whose live connections may finish. Owned by the table that
// withdrew the forwards; it is told when one is done.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "relay/forward_port.h"

namespace portfwd {

class DrainingPorts {
 public:
  explicit DrainingPorts(EventLoop& loop) : loop_(loop) {}

  /// @param port whose drain() has begun
  void add(std::unique_ptr<ForwardPort> port) { ports_.push_back(std::move(port)); }
  /// From within its on_drained().
  void remove(const ForwardPort& port) {
    const auto done = std::ranges::find(ports_, &port, &std::unique_ptr<ForwardPort>::get);
    loop_.retire(std::move(*done));
    ports_.erase(done);
  }
  [[nodiscard]] bool empty() const { return ports_.empty(); }

 private:
  EventLoop& loop_;
  std::vector<std::unique_ptr<ForwardPort>> ports_;
};

}  // namespace portfwd
