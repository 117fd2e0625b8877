// Tells a port watch at once when one of its listeners closes. Owned by that watch. Membership in
// the kernel's groups and the filter follow from what there is to watch for: with no listener, or
// while sockets come and go by the thousands, it is in no group, and looking alone must do.
// It does not know the listeners' story, only their ports.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

#include "event/event_loop.h"
#include "kernel/destroy_events.h"
#include "net/endpoint.h"

namespace portfwd {

/// Whether sockets come and go by the thousands in some namespace. Shared by all watches, since all
/// must leave: whether the kernel builds a message is asked of one table for all namespaces. How
/// long it blows can't be seen from outside the groups, so it is looked after every now and then.
/// Source: netlink_has_listeners() in net/netlink/af_netlink.c.
class CloseStorm {
 public:
  static constexpr Duration kAway = std::chrono::seconds(10);
  void begin(TimePoint now) { until_ = now + kAway; }
  [[nodiscard]] bool blowing(TimePoint now) const { return now < until_; }

 private:
  TimePoint until_ = TimePoint::min();
};

class CloseWatch final : private IoHandler {
 public:
  class Handler {
   public:
    /// Events wait; take() them, or pause() until there is time.
    virtual void on_closes() = 0;

   protected:
    ~Handler() = default;
  };

  /// The kernel spends 3 to 10 µs on each socket that closes while somebody is in the group.
  static constexpr std::uint64_t kMostCloses = 5000;  ///< within kWindow
  static constexpr Duration kWindow = std::chrono::seconds(1);

  /// @param socket see DestroyEvents
  CloseWatch(EventLoop& loop, CloseStorm& storm, UniqueFd socket, Handler& handler);

  /// @param ports of the listeners there are, ascending, each once @param udp some are of UDP
  void follow(std::span<const Port> ports, bool udp);
  /// To be called at every look.
  /// @return whether the groups were joined or left since the last time: what closed unseen must be
  /// found by looking
  bool follow_storm();

  /// What waits, and whether it is too much.
  [[nodiscard]] DestroyEvents::Batch take();
  void pause() { source_.disarm(); }
  void resume();
  [[nodiscard]] bool paused() const { return events_.joined() && source_.mask() == 0; }
  [[nodiscard]] bool joined() const { return events_.joined(); }

 private:
  void on_io(IoSource&, std::uint32_t) override { handler_.on_closes(); }
  void update_membership();
  void count(std::uint64_t closes);
  [[nodiscard]] bool covered(std::span<const Port> ports) const;

  EventLoop& loop_;
  CloseStorm& storm_;
  Handler& handler_;
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
