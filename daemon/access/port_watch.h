// Current listeners of one network namespace. They are kept current by three means: a quick poll of
// the namespace's socket counters as often as the Pace permits; a dump when the counters have
// changed or enough time has passed; and close events of the kernel, for ports only. Owned by the
// NetnsAccess. Its open files pin the namespace. It knows neither brokers nor forwards.
//
// Ports and Unix sockets are dumped separately, each when its own counters have changed. The
// counter of Unix sockets counts everything that is not in use as a port, and it changes when a
// socket is made, which is before listen(2). Hence a change causes two dumps: at once, and again
// kListenDelay later.
//
// States. *Dormant*: only the counters are open, as most sandboxes never listen. When a port is in
// use, a Unix socket accepts connections, or at once where there are no counters, the watch
// requests a source from its owner: once, and again after each diag_failed(), with growing pauses.
// *Reading sock_diag* or *reading /proc*: it has a source; renew_source() requests another one, and
// the old one serves meanwhile.
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

/// Rate limit of close events, shared by all watches. When thousands of sockets close in one
/// namespace, all watches must leave the multicast groups, since the kernel decides by one table
/// for all namespaces whether it builds a message. The rate is not visible from outside the groups,
/// so they are joined again after kRejoinDelay. Source: netlink_has_listeners() in
/// net/netlink/af_netlink.c.
class CloseRateLimit {
 public:
  static constexpr Duration kRejoinDelay = std::chrono::seconds(10);
  void exceed(TimePoint now) { until_ = now + kRejoinDelay; }
  [[nodiscard]] bool exceeded(TimePoint now) const { return now < until_; }

 private:
  TimePoint until_ = TimePoint::min();
};

// Close events of one network namespace. Owned by its port watch. The ports to watch determine the
// filter and the membership in the kernel's multicast groups. It is in no group while there is no
// listener, while the rate limit is exceeded, or when the kernel has rejected the filter or the
// membership; closes are then found by polling. It knows only the ports of listeners.
class CloseWatch final : private IoHandler {
 public:
  /// Limit within kWindow. The kernel spends 3 to 10 µs on each socket that closes while any
  /// program is in the group.
  static constexpr std::uint64_t kMostCloses = 5000;
  static constexpr Duration kWindow = std::chrono::seconds(1);

  /// @param socket see DestroyEvents
  /// @param on_closes called when events are pending; must call read_events(), or pause() to read
  /// them later
  CloseWatch(EventLoop& loop, CloseRateLimit& rate_limit, UniqueFd socket,
             std::move_only_function<void()> on_closes);

  /// @param ports of all listeners, ascending, each once
  /// @param udp whether some of them are UDP
  void set_ports(std::span<const Port> ports, bool udp);
  /// Joins or leaves the groups, as the rate limit requires. Must be called at every poll.
  /// @return whether the groups were joined or left since the last call: closes in between must be
  /// found by polling
  bool refresh_membership();

  /// Reads the pending events and counts them against the rate limit.
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
  bool refused_ = false;  ///< the kernel rejected the filter or the membership

  bool changed_ = false;      ///< the membership, since refresh_membership()
  std::uint64_t closes_ = 0;  ///< in the current window
  TimePoint window_ends_ = TimePoint::min();
};

/// Selection of the sockets of a namespace that are reported as listeners.
struct ListenerFilter {
  UdpInterest udp;
  std::vector<std::uint32_t> ignored;  ///< inodes of the daemon's own sockets inside

  [[nodiscard]] bool accepts(const Listener& listener) const;
};

/// The two kinds of listeners, which are dumped separately.
struct ListenerKinds {
  bool ports = false;
  bool unix_sockets = false;

  [[nodiscard]] bool any() const { return ports || unix_sockets; }
  [[nodiscard]] bool include(const Listener& listener) const {
    return listener.ip_address() != nullptr ? ports : unix_sockets;
  }
  ListenerKinds& operator|=(const ListenerKinds& other) {
    ports |= other.ports;
    unix_sockets |= other.unix_sockets;
    return *this;
  }
};
inline constexpr ListenerKinds kAllListeners{true, true};

// Source of the listeners of one network namespace: none yet, sock_diag, or the files of /proc,
// which are hundreds of times more expensive for ports. Owned by the port watch.
class ListenerSource {
 public:
  /// @param pid, netns see PortWatch
  ListenerSource(const DiagModules& modules, pid_t pid, std::uint64_t netns);

  void use_diag(UniqueFd socket) { tcp_.emplace<SockDiag>(std::move(socket)); }
  void use_procfs(ProcNetSockets table) { tcp_ = std::move(table); }
  [[nodiscard]] bool exists() const { return !std::holds_alternative<std::monostate>(tcp_); }
  [[nodiscard]] bool is_diag() const { return std::holds_alternative<SockDiag>(tcp_); }

  /// Reads the listeners of these kinds; those of UDP if the filter wants them. Must be called only
  /// if exists(). @param known the result of the last read
  /// @return those of the other kinds as they are known; unordered; a listener may occur twice
  [[nodiscard]] Result<std::vector<Listener>> read(ListenerKinds kinds,
                                                   const ListenerFilter& filter,
                                                   const std::vector<Listener>& known);
  /// Whether a Unix socket accepts connections, as far as /proc shows. Needs no source.
  [[nodiscard]] bool has_unix_listener(const ListenerFilter& filter) const;

 private:
  [[nodiscard]] Result<void> add_ports(const ListenerFilter& filter,
                                       const std::vector<Listener>& known,
                                       std::vector<Listener>& out);
  [[nodiscard]] Result<void> add_unix_sockets(const ListenerFilter& filter,
                                              std::vector<Listener>& out);
  [[nodiscard]] Result<std::vector<DiagSocket>> read_sockets(Protocol protocol);
  [[nodiscard]] Result<void> add_listeners(Protocol protocol, const ListenerFilter& filter,
                                           std::vector<Listener>& out);
  [[nodiscard]] Result<void> add_connected(const std::vector<Listener>& known,
                                           std::vector<Listener>& out);

  const DiagModules& modules_;
  const pid_t pid_;
  const std::uint64_t netns_;
  std::variant<std::monostate, SockDiag, ProcNetSockets> tcp_;  ///< SockDiag: for UDP too
  std::optional<ProcNetSockets> udp_;                           ///< where tcp_ cannot read UDP
  std::optional<ProcNetUnix> unix_;  ///< nothing where there is no process to open it by
};

// Pauses between attempts, growing while the attempts fail. Owned by the port watch.
class Backoff {
 public:
  /// Begins the next pause. After a shortage of descriptors or memory the pauses stay short.
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
  /// Shared by all watches; outlives them.
  struct Shared {
    EventLoop& loop;
    Pace& pace;
    CloseRateLimit& rate_limit;
    const UdpInterest& udp;
    const DiagModules& modules;
  };

  /// Called from the loop, never from within a call to the watch. They must not destroy the watch.
  struct Callbacks {
    /// Requests a source: use_diag(), use_procfs() or diag_failed() must be called, now or later.
    /// Not called again until then.
    std::move_only_function<void()> on_source_needed;
    /// Called when listeners() has changed, at most once a turn of the loop.
    std::move_only_function<void()> on_listeners;
  };

  /// @param pid a process inside, for the counters; the caller must hold its pidfd during the call.
  /// 0: there is none, and every poll is a dump
  /// @param netns inode of its network namespace; 0 when unknown
  PortWatch(const Shared& shared, Callbacks callbacks, pid_t pid, std::uint64_t netns);
  PortWatch(const PortWatch&) = delete;
  PortWatch& operator=(const PortWatch&) = delete;

  /// Reads from sock_diag from now on.
  /// @param dumps, events two NETLINK_SOCK_DIAG sockets made in the namespace. If `events` is
  /// invalid, closes are found by polling.
  void use_diag(UniqueFd dumps, UniqueFd events);
  /// Reads /proc/PID/net from now on, with slower polls, for a namespace in which no socket can be
  /// made. A failure counts as diag_failed().
  /// @return ESRCH, ENOENT: the process has exited
  Result<void> use_procfs();
  /// The same with files that are open already; the process may have exited.
  Result<void> use_procfs(Result<ProcNetSockets> table);
  /// Notifies that no source is available now.
  /// @param error determines how soon the watch requests one again
  void diag_failed(const Error& error);
  /// Notifies that the owner itself continues to try, and that the listeners will not be known
  /// soon.
  void diag_delayed() { initial_scan_done_ = true; }
  /// Notifies that the owner may have a better source now: the watch requests it, and the present
  /// one serves until then.
  void renew_source();

  [[nodiscard]] const std::vector<Listener>& listeners() const { return listeners_; }
  /// Notifies of a sign of life (an exec inside, a client that waits): polls soon and often for a
  /// while.
  void expedite() { slot_.expedite(); }
  /// Notifies of evidence that listeners() is outdated. With sock_diag it dumps ports at once, even
  /// beyond the CPU budget, but at most once in kEvidenceGap. Unix sockets, and any other source,
  /// are polled soon and often.
  void poll_now();
  static constexpr Duration kEvidenceGap = std::chrono::milliseconds(50);
  /// Time in which a program that makes a Unix socket usually listens on it.
  static constexpr Duration kListenDelay = std::chrono::milliseconds(10);
  /// Least time between two dumps of Unix sockets without a cause.
  static constexpr Duration kUnixPause = std::chrono::seconds(1);

  /// Excludes a socket of the daemon's own from the listeners, until stop_ignoring().
  /// @param inode of the socket, as in sock_diag and /proc
  void ignore(std::uint32_t inode);
  void stop_ignoring(std::uint32_t inode);

  /// Whether the listeners that existed at the start are known, or cannot be known (diag_failed).
  [[nodiscard]] bool initial_scan_done() const { return initial_scan_done_; }
  /// Whether initial_scan_done(), and the owner has been notified.
  [[nodiscard]] bool all_reported() const { return initial_scan_done_ && !changed_.armed(); }
  [[nodiscard]] bool dormant() const { return !source_.exists(); }
  [[nodiscard]] std::uint64_t dumps() const { return dumps_; }
  [[nodiscard]] bool receives_close_events() const { return closes_ && closes_->joined(); }

 private:
  Depth poll(Depth depth) override;
  void on_closes();
  void apply_closes();
  [[nodiscard]] ListenerKinds due(Depth depth);
  void drop(ListenerKinds kinds);
  void request_source();
  void poll_on_evidence();
  void dump(ListenerKinds kinds);
  void dump_failed(ListenerKinds kinds, const Error& error);
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
  SocketsInUse seen_;  ///< as of the last poll that read the counters
  /// A dump of these is needed, whatever the counters show.
  ListenerKinds stale_ = kAllListeners;
  TimePoint unix_again_ = TimePoint::max();  ///< the second dump after a change
  TimePoint unix_dumped_ = TimePoint::min();
  bool requested_ = false;  ///< a source; the owner has not answered yet
  bool renew_ = false;      ///< request another source
  Backoff request_backoff_;
  Backoff dump_backoff_;

  ListenerSource source_;
  ListenerFilter filter_;            ///< its `udp` is that of the last poll
  std::vector<Listener> listeners_;  ///< ordered
  std::uint64_t dumps_ = 0;
  bool initial_scan_done_ = false;

  TimePoint evidence_due_ = TimePoint::min();
  Timer evidence_;
  Timer changed_;  ///< armed while the owner must be notified
  std::optional<CloseWatch> closes_;
  PollSlot slot_;
};

}  // namespace portfwd
