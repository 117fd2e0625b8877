// The processes whose environment said PORTFWD=off, as long as they live. A program that writes its
// title over its environment (nginx, redis) says so only once, so this outlives the daemon: a
// decision is the same after a restart. Part of the ProcessFactsCache.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace portfwd {

/// A process of one boot of this machine.
struct OptOut {
  std::string boot;           ///< the kernel's random id of it
  pid_t pid = 0;              ///< as the daemon counts
  std::uint64_t started = 0;  ///< as ProcDir::start_time() has it
  friend bool operator==(const OptOut&, const OptOut&) = default;
};

class OptOuts {
 public:
  static constexpr std::size_t kMost = 4096;

  /// @param boot see OptOut
  explicit OptOuts(std::string boot) : boot_(std::move(boot)) {}

  void set_observer(std::function<void()> on_change) { on_change_ = std::move(on_change); }
  /// What all() gave in the life before. What is of another boot is forgotten.
  void recall(const std::vector<OptOut>& before) {
    for (const OptOut& each : before) {
      if (each.boot == boot_ && started_.size() < kMost) started_.emplace(each.pid, each.started);
    }
  }
  void add(pid_t pid, std::uint64_t started) {
    if (contains(pid, started) || started_.size() >= kMost) return;
    started_[pid] = started;
    on_change_();
  }
  [[nodiscard]] bool contains(pid_t pid, std::uint64_t started) const {
    const auto known = started_.find(pid);
    return known != started_.end() && known->second == started;
  }
  void forget_unless(const std::function<bool(pid_t)>& is_there) {
    const auto ended =
        std::erase_if(started_, [&](const auto& process) { return !is_there(process.first); });
    if (ended > 0) on_change_();
  }
  [[nodiscard]] std::vector<OptOut> all() const {
    std::vector<OptOut> out;
    for (const auto& [pid, started] : started_) out.push_back({boot_, pid, started});
    return out;
  }

 private:
  const std::string boot_;
  std::map<pid_t, std::uint64_t> started_;
  std::function<void()> on_change_ = [] {};
};

}  // namespace portfwd
