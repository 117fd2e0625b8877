// Close events of one network namespace, for its port watch, which owns this. Membership in the
// kernel's multicast groups and the filter follow from the ports to watch: without a listener, or
// while the rate limit is exceeded, it is in no group, and closes are found by polling. It knows
// only the ports of listeners.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

#include "event/event_loop.h"
#include "kernel/destroy_events.h"
#include "net/endpoint.h"

namespace portfwd {

class PortWatch;

/// Rate limit of close events, shared by all watches: when sockets close by the thousands in one
/// namespace all watches must leave the groups, since the kernel keeps one table for all namespaces
/// by which it decides whether to build a message. From outside the groups the rate cannot be seen,
/// so they are joined again after kAway. Source: netlink_has_listeners() in
/// net/netlink/af_netlink.c.
class CloseRateLimit {
 public:
  static constexpr Duration kAway = std::chrono::seconds(10);
  void exceed(TimePoint now) { until_ = now + kAway; }
  [[nodiscard]] bool exceeded(TimePoint now) const { return now < until_; }

 private:
  TimePoint until_ = TimePoint::min();
};

class CloseWatch final : private IoHandler {
 public:
  /// The kernel spends 3 to 10 µs on each socket that closes while any program is in the group.
  static constexpr std::uint64_t kMostCloses = 5000;  ///< within kWindow
  static constexpr Duration kWindow = std::chrono::seconds(1);

  /// @param socket see DestroyEvents
  /// @param watch on_closes() is called when events wait: take() them, or pause() until there is
  /// time
  CloseWatch(EventLoop& loop, CloseRateLimit& rate_limit, UniqueFd socket, PortWatch& watch);

  /// @param ports of the listeners there are, ascending, each once @param udp some are of UDP
  void set_ports(std::span<const Port> ports, bool udp);
  /// To be called at every poll.
  /// @return whether the groups were joined or left since the last time: closes in between must be
  /// found by polling
  bool refresh_membership();

  /// The events that wait; counts them against the rate limit.
  [[nodiscard]] DestroyEvents::Batch take();
  void pause() { source_.disarm(); }
  void resume();
  [[nodiscard]] bool paused() const { return events_.joined() && source_.mask() == 0; }
  [[nodiscard]] bool joined() const { return events_.joined(); }

 private:
  void on_io(IoSource&, std::uint32_t) override;
  void update_membership();
  void count(std::uint64_t closes);
  [[nodiscard]] bool covered(std::span<const Port> ports) const;

  EventLoop& loop_;
  CloseRateLimit& rate_limit_;
  PortWatch& watch_;
  DestroyEvents events_;
  IoSource source_;
  bool wanted_ = false;
  bool udp_ = false;
  bool refused_ = false;  ///< the kernel has no such groups

  bool changed_ = false;      ///< membership
  std::uint64_t closes_ = 0;  ///< in this window
  TimePoint window_ends_ = TimePoint::min();
};

}  // namespace portfwd
