// Tells a port watch at once when one of its listeners closes. Owned by that watch. Membership in
// the kernel's groups and the filter follow from what there is to watch for: with no listener, or
// while connections come and go by the thousands, it is in no group, and looking alone must do.
// It does not know the listeners' story, only their ports.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/endpoint.h"
#include "event/event_loop.h"
#include "kernel/destroy_events.h"
#include "kernel/net_snmp.h"

namespace portfwd {

/// Whether connections come and go by the thousands in some namespace. Shared by all watches, since
/// all must leave: whether the kernel builds a message is asked of one table for all namespaces.
/// Source: netlink_has_listeners() in net/netlink/af_netlink.c.
class CloseStorm {
 public:
  void begin() { ++namespaces_; }
  void end() { --namespaces_; }
  [[nodiscard]] bool blowing() const { return namespaces_ > 0; }

 private:
  int namespaces_ = 0;
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

  /// The kernel spends 10 µs on each socket that closes while somebody is in the group.
  static constexpr double kStormRate = 5000;  ///< connections opened a second: leave
  static constexpr double kCalmRate = 1000;   ///< come back

  /// @param socket see DestroyEvents; @param opens nothing: the rate is not known, and never high
  CloseWatch(EventLoop& loop, CloseStorm& storm, UniqueFd socket, std::optional<NetSnmp> opens,
             Handler& handler);
  ~CloseWatch() { set_storm(false); }

  /// @param ports of the listeners there are, ascending, each once @param udp some are of UDP
  void follow(std::span<const Port> ports, bool udp);
  /// Judges the rate of connections, by a counter read every 1 to 8 s; to be called at every look.
  /// @return whether the groups were joined or left just now: what closed unseen must be found by
  /// looking.
  bool follow_rate();

  [[nodiscard]] DestroyEvents::Batch take() { return events_.drain(); }
  void pause() { source_.disarm(); }
  void resume();
  [[nodiscard]] bool paused() const { return events_.joined() && source_.mask() == 0; }
  [[nodiscard]] bool joined() const { return events_.joined(); }

 private:
  void on_io(IoSource&, std::uint32_t) override { handler_.on_closes(); }
  bool update_membership();
  void measure_rate();
  void set_storm(bool here);
  [[nodiscard]] bool covered(std::span<const Port> ports) const;

  EventLoop& loop_;
  CloseStorm& storm_;
  Handler& handler_;
  DestroyEvents events_;
  IoSource source_;
  std::vector<Port> filtered_;  ///< what the attached filter lets through
  bool filters_all_ports_ = false;
  bool wanted_ = false;
  bool udp_ = false;
  bool refused_ = false;  ///< the kernel has no such groups

  std::optional<NetSnmp> opens_;
  std::uint64_t opens_seen_ = 0;
  TimePoint rate_read_ = TimePoint::min();
  Duration rate_interval_;
  bool storm_here_ = false;
};

}  // namespace portfwd
