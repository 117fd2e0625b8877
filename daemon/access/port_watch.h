// The listeners of one network namespace, kept up to date: a quick poll of its socket counters as
// often as the pace permits, a dump when they have moved or enough time has passed, and the
// kernel's close events. Owned by the NetnsAccess; its open files pin the namespace. It knows
// neither brokers nor forwards.
//
// States. *Dormant*: it has nothing but the counters, as most sandboxes never open a socket. When
// one is in use it requests a source from its owner, once, and again with growing pauses after each
// diag_failed(). *Reading sock_diag* or *reading /proc*: it has a source; renew_source() requests
// another one while the old one serves.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
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

// Close events of one network namespace, for its port watch, which owns this. Membership in the
// kernel's multicast groups and the filter follow from the ports to watch: without a listener, or
// while the rate limit is exceeded, it is in no group, and closes are found by polling. It knows
// only the ports of listeners.
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

  /// Called from the loop, never from within a call to the watch, which it must not destroy from
  /// there.
  class Owner {
   public:
    /// A socket is in use inside: call one of give_diag(), use_procfs() and diag_failed(), now or
    /// later. Called once until then.
    virtual void on_source_needed() = 0;
    /// listeners() has changed.
    virtual void on_listeners() = 0;

   protected:
    ~Owner() = default;
  };

  /// @param owner borrowed
  /// @param pid a process inside, held by the caller's pidfd, for the counters; 0: there is none,
  /// and every poll is a dump
  /// @param netns inode of its network namespace, 0 when it cannot be seen
  PortWatch(const Shared& shared, Owner& owner, pid_t pid, std::uint64_t netns);
  PortWatch(const PortWatch&) = delete;
  PortWatch& operator=(const PortWatch&) = delete;

  /// @param dumps, events two NETLINK_SOCK_DIAG sockets made in the namespace; without a valid
  /// `events` closes are found by polling
  void give_diag(UniqueFd dumps, UniqueFd events);
  /// Where no socket can be made inside: reads /proc/PID/net instead, hundreds of times dearer,
  /// hence slower. ESRCH, ENOENT: the process is gone.
  Result<void> use_procfs();
  /// The same by files that are open already, so whatever became of the process.
  Result<void> use_procfs(Result<ProcNetSockets> table);
  /// @param error decides how soon it is asked again
  void diag_failed(const Error& error);
  /// The owner continues its attempts by itself; what is open is not known soon.
  void diag_delayed() { first_look_done_ = true; }
  /// The owner may have something better by now: it is asked again, and the present source serves
  /// until it answers.
  void renew_source();

  [[nodiscard]] const std::vector<Listener>& listeners() const { return listeners_; }
  /// A sign of life (an exec inside, a client that waits): polls soon and often for a while.
  void expedite() { slot_.expedite(); }
  /// Evidence that listeners() is outdated: dumps at once, whatever the budget permits, but at most
  /// once in kEvidenceGap.
  void poll_now();
  static constexpr Duration kEvidenceGap = std::chrono::milliseconds(50);

  /// A socket of the daemon's own inside: it is not reported as a listener, until forget().
  /// @param inode of the socket, by which /proc knows it too
  void ignore(std::uint32_t inode);
  void forget(std::uint32_t inode);

  /// Whether what was open at the start is known by now (or cannot be: diag_failed).
  [[nodiscard]] bool first_look_done() const { return first_look_done_; }
  /// Whether that is so, and the owner has been called.
  [[nodiscard]] bool settled() const { return first_look_done_ && !changed_.armed(); }
  [[nodiscard]] bool dormant() const { return std::holds_alternative<std::monostate>(source_); }
  [[nodiscard]] std::uint64_t dumps() const { return dumps_; }
  [[nodiscard]] bool hears_closes() const { return closes_ && closes_->joined(); }

 private:
  friend class CloseWatch;
  /// Pauses that grow while something fails.
  class Backoff {
   public:
    void fail(const Error& error, TimePoint now);
    void reset() { *this = {}; }
    [[nodiscard]] bool failing() const { return pause_ > Duration::zero(); }
    [[nodiscard]] bool over(TimePoint now) const { return now >= until_; }

   private:
    Duration pause_{};
    TimePoint until_ = TimePoint::min();
  };

  Depth poll(Depth depth) override;
  void on_closes();
  void take_closes();
  [[nodiscard]] bool worth_a_dump(Depth depth);
  void request_source();
  void poll_on_evidence();
  void dump();
  void dump_failed(const Error& error);
  [[nodiscard]] Result<std::vector<DiagSocket>> read_source(Protocol protocol);
  [[nodiscard]] Result<std::vector<Listener>> read_listeners(Protocol protocol);
  [[nodiscard]] Result<std::vector<Listener>> read_datagram_listeners();
  [[nodiscard]] bool counts(const Listener& listener) const;
  void update_close_watch();
  void replace(std::vector<Listener> now);

  EventLoop& loop_;
  Pace& pace_;
  CloseRateLimit& rate_limit_;
  const UdpInterest& wanted_udp_;
  const DiagModules& modules_;
  Owner& owner_;
  const pid_t pid_;
  const std::uint64_t netns_;

  std::optional<Sockstat> counter_;
  SocketsInUse seen_;       ///< just before the last dump
  bool stale_ = true;       ///< a dump is owed, whatever the counters say
  bool requested_ = false;  ///< the owner has been asked for a source and has not answered
  bool renew_ = false;      ///< request one though there is one
  Backoff request_backoff_;
  Backoff dump_backoff_;

  UdpInterest udp_;  ///< at the last poll
  std::variant<std::monostate, SockDiag, ProcNetSockets> source_;
  std::optional<ProcNetSockets> udp_table_;  ///< where udp_diag is missing
  std::vector<Listener> listeners_;          ///< ordered
  std::vector<std::uint32_t> ignored_;
  std::uint64_t dumps_ = 0;
  bool first_look_done_ = false;

  TimePoint evidence_due_ = TimePoint::min();
  Timer evidence_;
  Timer changed_;  ///< calls the owner, once a turn
  std::optional<CloseWatch> closes_;
  PollSlot slot_;
};

}  // namespace portfwd
