// The listeners of one container, kept true: a glance at its socket counters as often as the pace
// allows, a dump when they have moved or long enough have not, and the kernel's word on closes.
// Owned by whoever owns the container's forwards, and gone with the container, since its open files
// pin the namespace. It knows neither brokers nor forwards.
//
// It begins dormant, with nothing but the counters: most sandboxes never open a socket. Only when
// one is in use does it ask its provider for sockets made inside.
#pragma once

#include <sys/types.h>

#include <optional>
#include <variant>
#include <vector>

#include "access/close_watch.h"
#include "access/pace.h"
#include "access/udp_interest.h"
#include "access/watcher.h"
#include "event/event_loop.h"
#include "kernel/diag_modules.h"
#include "kernel/proc_net_sockets.h"
#include "kernel/sock_diag.h"
#include "kernel/sockstat.h"

namespace portfwd {

class PortWatch;

class DiagProvider {
 public:
  /// A socket is in use inside: call one of give_diag(), use_procfs() and diag_failed(), now or
  /// later. Called once until then; again after diag_failed(), with growing pauses.
  virtual void need_diag(PortWatch& watch) = 0;

 protected:
  ~DiagProvider() = default;
};

class PortWatch final : public Watcher, private Looker, private CloseWatch::Handler {
 public:
  /// What all watches have in common; outlives them.
  struct Shared {
    EventLoop& loop;
    Pace& pace;
    CloseStorm& storm;
    const UdpInterest& udp;
    const DiagModules& modules;
  };

  /// @param observer called from the loop, never from within a call to this object; it must not
  /// destroy the watch from there. Observer and provider are borrowed.
  /// @param pid a process inside, held by the caller's pidfd, for the counters; 0: there is none,
  /// and every look is a dump
  /// @param netns inode of its network namespace, 0 when it cannot be seen
  PortWatch(const Shared& shared, WatchObserver& observer, DiagProvider& provider, pid_t pid,
            std::uint64_t netns);

  /// @param dumps, events two NETLINK_SOCK_DIAG sockets made in the namespace; without a valid
  /// `events` closes are found by looking
  void give_diag(UniqueFd dumps, UniqueFd events);
  /// Where no socket can be made inside: reads /proc/PID/net instead, hundreds of times
  /// dearer, hence slower. ESRCH, ENOENT: the process is gone.
  Result<void> use_procfs();
  /// The same by files that are open already, so whatever became of the process.
  Result<void> use_procfs(Result<ProcNetSockets> table);
  /// @param error decides how soon it is asked again
  void diag_failed(const Error& error);
  /// The provider goes on trying by itself; what is open is not known soon.
  void diag_delayed() { first_look_done_ = true; }
  /// The provider may have something better by now: it is asked again, and what there is serves
  /// until it answers.
  void renew_source();

  [[nodiscard]] const std::vector<Listener>& listeners() const override { return listeners_; }
  void expedite() override { seat_.expedite(); }
  /// Something says that the listeners are others: dumps at once, whatever the budget allows, but
  /// at most once in kEvidenceGap.
  void poll_now();
  static constexpr Duration kEvidenceGap = std::chrono::milliseconds(50);

  /// A socket of our own making inside: it is nobody's listener, until forget().
  /// @param inode of the socket, by which /proc knows it too
  void ignore(std::uint32_t inode);
  void forget(std::uint32_t inode) { std::erase(ignored_, inode); }

  /// Whether what was open at the start is known by now (or cannot be: diag_failed).
  [[nodiscard]] bool first_look_done() const { return first_look_done_; }
  /// Whether that is so, and the observer was told.
  [[nodiscard]] bool settled() const { return first_look_done_ && !changed_.armed(); }
  [[nodiscard]] bool dormant() const { return std::holds_alternative<std::monostate>(source_); }
  [[nodiscard]] std::uint64_t dumps() const { return dumps_; }
  [[nodiscard]] bool hears_closes() const { return closes_ && closes_->joined(); }

 private:
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

  Depth look(Depth depth) override;
  void on_closes() override;
  void take_closes();
  [[nodiscard]] bool worth_a_dump(Depth depth);
  void ask();
  void follow_evidence();
  void dump();
  void dump_failed(const Error& error);
  [[nodiscard]] Result<std::vector<DiagSocket>> read_source(Protocol protocol);
  [[nodiscard]] Result<std::vector<Listener>> find(Protocol protocol);
  [[nodiscard]] Result<std::vector<Listener>> find_datagrams();
  [[nodiscard]] bool counts(const Listener& listener) const;
  void follow_closes();
  void replace(std::vector<Listener> now);

  EventLoop& loop_;
  Pace& pace_;
  CloseStorm& storm_;
  const UdpInterest& wanted_udp_;
  const DiagModules& modules_;
  WatchObserver& observer_;
  DiagProvider& provider_;
  const pid_t pid_;
  const std::uint64_t netns_;

  std::optional<Sockstat> counter_;
  SocketsInUse seen_;   ///< just before the last dump
  bool stale_ = true;   ///< a dump is owed, whatever the counters say
  bool asked_ = false;  ///< the provider is at work
  bool renew_ = false;  ///< it is to be asked though there is a source
  Backoff asking_;
  Backoff dumping_;

  UdpInterest udp_;  ///< at the last look
  std::variant<std::monostate, SockDiag, ProcNetSockets> source_;
  std::optional<ProcNetSockets> udp_table_;  ///< where udp_diag is missing
  std::vector<Listener> listeners_;          ///< ordered
  std::vector<std::uint32_t> ignored_;
  std::uint64_t dumps_ = 0;
  bool first_look_done_ = false;

  TimePoint evidence_due_ = TimePoint::min();
  Timer evidence_;
  Timer changed_;  ///< tells the observer, once a turn
  std::optional<CloseWatch> closes_;
  Pace::Seat seat_;
};

}  // namespace portfwd
