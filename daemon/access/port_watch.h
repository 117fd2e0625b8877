// The listeners of one network namespace, kept up to date: a quick poll of its socket counters as
// often as the pace permits, a dump when they have moved or enough time has passed, and the
// kernel's close events. Owned by the NetnsAccess; its open files pin the namespace. It knows
// neither brokers nor forwards.
//
// States. *Dormant*: only the counters are open, as most sandboxes never open a socket. When one is
// in use the watch requests a source from its owner, once, and again with growing pauses after each
// diag_failed(). *Reading sock_diag* or *reading /proc*: it has a source; renew_source() requests
// another one while the old one serves.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "access/listener.h"
#include "access/pace.h"
#include "event/event_loop.h"
#include "kernel/destroy_events.h"
#include "kernel/proc_net.h"
#include "kernel/sock_diag.h"
#include "net/address.h"

namespace portfwd {

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

// Close events of one network namespace. Owned by its port watch. Membership in the kernel's
// multicast groups and the filter follow from the ports to watch: without a listener, or while the
// rate limit is exceeded, it is in no group, and closes are found by polling. It knows only the
// ports of listeners.
class CloseWatch final : private IoHandler {
 public:
  /// The kernel spends 3 to 10 µs on each socket that closes while any program is in the group.
  static constexpr std::uint64_t kMostCloses = 5000;  ///< within kWindow
  static constexpr Duration kWindow = std::chrono::seconds(1);

  /// @param socket see DestroyEvents
  /// @param on_closes called when events wait: read_events(), or pause() until there is time
  CloseWatch(EventLoop& loop, CloseRateLimit& rate_limit, UniqueFd socket,
             std::move_only_function<void()> on_closes);

  /// @param ports of all listeners, ascending, each once @param udp some are of UDP
  void set_ports(std::span<const Port> ports, bool udp);
  /// To be called at every poll.
  /// @return whether the groups were joined or left since the last time: closes in between must be
  /// found by polling
  bool refresh_membership();

  /// Those that wait; counts them against the rate limit.
  [[nodiscard]] DestroyEvents::Batch read_events();
  void pause() { source_.disarm(); }
  void resume();
  [[nodiscard]] bool paused() const { return events_.joined() && source_.mask() == 0; }
  [[nodiscard]] bool joined() const { return events_.joined(); }

 private:
  void on_io(IoSource&, std::uint32_t) override { on_closes_(); }
  void update_membership();
  void count_closes(std::uint64_t closes);
  [[nodiscard]] bool covered(std::span<const Port> ports) const;

  EventLoop& loop_;
  CloseRateLimit& rate_limit_;
  std::move_only_function<void()> on_closes_;
  DestroyEvents events_;
  IoSource source_;
  bool wanted_ = false;
  bool udp_ = false;
  bool refused_ = false;  ///< the kernel has no such groups

  bool changed_ = false;      ///< membership
  std::uint64_t closes_ = 0;  ///< in this window
  TimePoint window_ends_ = TimePoint::min();
};

/// Which sockets of a namespace are reported as listeners.
struct ListenerFilter {
  UdpInterest udp;
  std::vector<std::uint32_t> ignored;  ///< inodes of the daemon's own sockets inside

  [[nodiscard]] bool accepts(const Listener& listener) const;
};

// What the listeners of one network namespace are read from: nothing yet, sock_diag, or the files
// of /proc, which are hundreds of times more expensive. Owned by the port watch.
class ListenerSource {
 public:
  /// @param pid, netns as PortWatch has them
  ListenerSource(const DiagModules& modules, pid_t pid, std::uint64_t netns)
      : modules_(modules), pid_(pid), netns_(netns) {}

  void use_diag(UniqueFd socket) { tcp_.emplace<SockDiag>(std::move(socket)); }
  void use_procfs(ProcNetSockets table) { tcp_ = std::move(table); }
  [[nodiscard]] bool exists() const { return !std::holds_alternative<std::monostate>(tcp_); }
  [[nodiscard]] bool is_diag() const { return std::holds_alternative<SockDiag>(tcp_); }

  /// Must exist. UDP is read if the filter asks for it.
  /// @param known what was read before
  /// @return in no order; a listener may be there twice
  [[nodiscard]] Result<std::vector<Listener>> read(const ListenerFilter& filter,
                                                   const std::vector<Listener>& known);

 private:
  [[nodiscard]] Result<std::vector<DiagSocket>> read_sockets(Protocol protocol);
  [[nodiscard]] Result<void> add_listeners(Protocol protocol, const ListenerFilter& filter,
                                           std::vector<Listener>& out);
  [[nodiscard]] Result<void> add_connected(const std::vector<Listener>& known,
                                           std::vector<Listener>& out);

  const DiagModules& modules_;
  const pid_t pid_;
  const std::uint64_t netns_;
  std::variant<std::monostate, SockDiag, ProcNetSockets> tcp_;  ///< of UDP, too, if it can be
  std::optional<ProcNetSockets> udp_;                           ///< where udp_diag is missing
};

// Pauses between attempts, which grow while they fail. Owned by the port watch.
class Backoff {
 public:
  /// A shortage of descriptors or memory keeps the pauses short.
  void fail(const Error& error, TimePoint now);
  void reset() { *this = {}; }
  [[nodiscard]] bool failing() const { return pause_ > Duration::zero(); }
  [[nodiscard]] bool over(TimePoint now) const { return now >= until_; }

 private:
  Duration pause_{};
  TimePoint until_ = TimePoint::min();
};

class PortWatch final : private Pollable {
 public:
  /// What all watches have in common; outlives them.
  struct Shared {
    EventLoop& loop;
    Pace& pace;
    CloseRateLimit& rate_limit;
    const UdpInterest& udp;
    const DiagModules& modules;
  };

  /// Called from the loop, never from within a call to the watch, which they must not destroy.
  struct Callbacks {
    /// A socket is in use inside: use_diag(), use_procfs() or diag_failed() must be called, now or
    /// later. Called once until then.
    std::move_only_function<void()> on_source_needed;
    /// listeners() has changed.
    std::move_only_function<void()> on_listeners;
  };

  /// @param pid a process inside, held by the caller's pidfd, for the counters; 0: there is none,
  /// and every poll is a dump
  /// @param netns inode of its network namespace, 0 when it cannot be seen
  PortWatch(const Shared& shared, Callbacks callbacks, pid_t pid, std::uint64_t netns);
  PortWatch(const PortWatch&) = delete;
  PortWatch& operator=(const PortWatch&) = delete;

  /// @param dumps, events two NETLINK_SOCK_DIAG sockets made in the namespace; without a valid
  /// `events` closes are found by polling
  void use_diag(UniqueFd dumps, UniqueFd events);
  /// Where no socket can be made inside: reads /proc/PID/net instead, at a slower pace. Counts a
  /// failure as diag_failed(). @return ESRCH, ENOENT: the process is gone
  Result<void> use_procfs();
  /// The same by files that are open already, whatever became of the process.
  Result<void> use_procfs(Result<ProcNetSockets> table);
  /// There is no source now. @param error determines how soon one is requested again
  void diag_failed(const Error& error);
  /// The owner continues its attempts by itself; what is open will not be known soon.
  void diag_delayed() { first_look_done_ = true; }
  /// The owner may have a better source by now: one is requested, and the present one serves until
  /// it is there.
  void renew_source();

  [[nodiscard]] const std::vector<Listener>& listeners() const { return listeners_; }
  /// A sign of life (an exec inside, a client that waits): polls soon and often for a while.
  void expedite() { slot_.expedite(); }
  /// Evidence that listeners() is outdated: dumps at once, whatever the budget permits, but at most
  /// once in kEvidenceGap.
  void poll_now();
  static constexpr Duration kEvidenceGap = std::chrono::milliseconds(50);

  /// A socket of the daemon's own inside: it is not reported as a listener, until stop_ignoring().
  /// @param inode of the socket, by which /proc knows it too
  void ignore(std::uint32_t inode);
  void stop_ignoring(std::uint32_t inode);

  /// Whether what was open at the start is known by now, or cannot be (diag_failed).
  [[nodiscard]] bool first_look_done() const { return first_look_done_; }
  /// Whether that is so, and the owner was notified.
  [[nodiscard]] bool settled() const { return first_look_done_ && !changed_.armed(); }
  [[nodiscard]] bool dormant() const { return !source_.exists(); }
  [[nodiscard]] std::uint64_t dumps() const { return dumps_; }
  [[nodiscard]] bool hears_closes() const { return closes_ && closes_->joined(); }

 private:
  Depth poll(Depth depth) override;
  void on_closes();
  void apply_closes();
  [[nodiscard]] bool worth_a_dump(Depth depth);
  void request_source();
  void poll_on_evidence();
  void dump();
  void dump_failed(const Error& error);
  void update_close_watch();
  void set_listeners(std::vector<Listener> now);

  EventLoop& loop_;
  Pace& pace_;
  CloseRateLimit& rate_limit_;
  const UdpInterest& wanted_udp_;
  Callbacks callbacks_;
  const pid_t pid_;
  const std::uint64_t netns_;

  std::optional<Sockstat> counter_;
  SocketsInUse seen_;       ///< just before the last dump
  bool stale_ = true;       ///< a dump is owed, whatever the counters say
  bool requested_ = false;  ///< the owner has been asked for a source and has not answered
  bool renew_ = false;      ///< request one though there is one
  Backoff request_backoff_;
  Backoff dump_backoff_;

  ListenerSource source_;
  ListenerFilter filter_;            ///< its interest in UDP is that of the last poll
  std::vector<Listener> listeners_;  ///< ordered
  std::uint64_t dumps_ = 0;
  bool first_look_done_ = false;

  TimePoint evidence_due_ = TimePoint::min();
  Timer evidence_;
  Timer changed_;  ///< notifies the owner, once a turn
  std::optional<CloseWatch> closes_;
  PollSlot slot_;
};

}  // namespace portfwd
