// Finds the containers of this machine without asking any engine, and adds them to the Registry.
// Owned by main. It knows processes and namespaces, and nothing of what listens in them.
//
// The truth is in /proc: which processes exist, and in which network namespace each is. An exec
// hint names a process, and a few new pids are known by their numbers: these are looked at alone,
// at once. When the kernel has given out more pids than that, a scan of all is due, at the pace
// that its cost allows. After each look what exists is compared with what the Registry has, so a
// lost hint costs time and nothing else.
//
// Where what is found out: ProcessTable, which process is in which namespace; ContainerInspector,
// whether that is a container and what it is called; OrphanSearch, whether a container has ended.
#pragma once

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "discover/container_inspector.h"
#include "discover/hints.h"
#include "discover/process_table.h"
#include "discover/registry.h"
#include "event/event_loop.h"

namespace portfwd {

// When to scan /proc: as soon as there is a reason, but no more often than the shortest gap and the
// CPU budget allow. The budget is credit that grows with time and is spent by measured cost, so a
// calm machine answers a burst at once, and a busy one pays no more than its share. Pure; owned by
// Discovery.
//
// One half of the budget is for scans of all processes, the other for looks at single processes: an
// expensive scan must not delay the look at a process that a hint has named.
class ScanPace {
 public:
  static constexpr Duration kGap = std::chrono::milliseconds(100);
  static constexpr Duration kExpeditedGap = std::chrono::milliseconds(20);
  static constexpr Duration kExpeditedFor = std::chrono::seconds(1);    ///< after expedite()
  static constexpr Duration kFullInterval = std::chrono::seconds(5);    ///< between full scans
  static constexpr Duration kMostSaved = std::chrono::seconds(5);       ///< the budget of that time
  static constexpr Duration kMostOwed = std::chrono::seconds(1);        ///< longest wait for credit
  static constexpr Duration kWakeCost = std::chrono::microseconds(25);  ///< see Pace::kWakeCost
  /// Longest wait for credit of processes that a hint has named: while programs start by the dozen
  /// they are looked at in batches of that interval. ExecHints limits how many there are.
  static constexpr Duration kBatchInterval = std::chrono::milliseconds(40);

  /// @param budget share of one core, such as 0.002; more than 0
  ScanPace(double budget, TimePoint now) : last_(now - kFullInterval), full_(last_) {
    set_budget(budget);
    credit_ = look_credit_ = share_of(kMostSaved);
    looked_ = now;
  }
  void set_budget(double budget) {
    assert(budget > 0);
    budget_ = budget;
  }

  void request() { requested_ = true; }
  /// For a hint from outside /proc: what it announces may take some time to appear.
  void expedite(TimePoint now) {
    requested_ = true;
    expedited_until_ = now + kExpeditedFor;
  }
  [[nodiscard]] bool expedited(TimePoint now) const { return now < expedited_until_; }

  /// When the next scan may begin; without a request that is the next full one.
  [[nodiscard]] TimePoint due(TimePoint now) const {
    return requested_ ? std::min(last_ + gap(now), full_due()) : full_due();
  }
  [[nodiscard]] TimePoint full_due() const { return full_ + kFullInterval; }
  /// Least time from the last scan to the next.
  [[nodiscard]] Duration gap(TimePoint now) const {
    const Duration owed = time_to_earn(std::max(-credit_, Duration()));
    return std::max(expedited(now) ? kExpeditedGap : kGap, owed);
  }

  /// Requests from now on are for the scan after this one.
  void begin_scan() { requested_ = false; }
  /// @param cost CPU time that the scan took
  void end_scan(TimePoint now, Duration cost, bool full) {
    assert(now >= last_);
    const Duration earned = credit_ + share_of(now - last_);
    credit_ = std::max(std::min(earned, share_of(kMostSaved)) - cost, -share_of(kMostOwed));
    last_ = now;
    if (full) full_ = now;
    ++scans_;
    spent_ += cost;
  }
  /// Looks at single processes. @param cost CPU time, without the wake-up
  void charge_look(TimePoint now, Duration cost) {
    const Duration earned = look_credit_ + share_of(now - looked_);
    look_credit_ =
        std::max(std::min(earned, share_of(kMostSaved)) - cost - kWakeCost, -share_of(kMostOwed));
    looked_ = now;
    spent_ += cost + kWakeCost;
  }
  /// Work that follows from a look, such as adding a container; the next scan waits for it.
  void charge_scan_credit(Duration cost) {
    credit_ = std::max(credit_ - cost, -share_of(kMostOwed));
    spent_ += cost;
  }
  /// When processes that a hint has named may be looked at; in the past when now.
  [[nodiscard]] TimePoint affordable_at() const {
    return std::min(has_look_credit_at(Duration()), looked_ + kBatchInterval);
  }
  /// When other processes may be. @param hinted half of what can be saved is kept for hints then,
  /// so that hundreds of short-lived processes of a build do not delay the look at a new container
  [[nodiscard]] TimePoint spare_at(bool hinted) const {
    return has_look_credit_at(hinted ? share_of(kMostSaved) / 2 : Duration());
  }
  [[nodiscard]] Duration spent() const { return spent_; }
  [[nodiscard]] std::uint64_t scans() const { return scans_; }

 private:
  [[nodiscard]] Duration share_of(Duration time) const {
    return Duration(static_cast<Duration::rep>(static_cast<double>(time.count()) * budget_ / 2));
  }
  [[nodiscard]] Duration time_to_earn(Duration credit) const {
    return Duration(static_cast<Duration::rep>(static_cast<double>(credit.count()) / budget_ * 2));
  }
  [[nodiscard]] TimePoint has_look_credit_at(Duration level) const {
    if (look_credit_ >= level) return TimePoint::min();
    return looked_ + time_to_earn(level - look_credit_);
  }

  double budget_ = 0;
  TimePoint last_;
  TimePoint full_;
  TimePoint expedited_until_{};
  Duration credit_{};       ///< for scans
  Duration look_credit_{};  ///< for looks at single processes
  TimePoint looked_{};      ///< when look_credit_ was last updated
  Duration spent_{};
  std::uint64_t scans_ = 0;
  bool requested_ = true;
};

// The pids that the kernel has given out, by /proc/loadavg. Owned by Discovery.
class NewPids {
 public:
  explicit NewPids(const ProcDir& proc);

  /// Those from `first` to `last`; `count` is INT_MAX when they cannot be known.
  struct Range {
    pid_t first = 0;
    pid_t last = 0;
    int count = 0;
  };
  /// Those since the last call; the first call knows none. Costs 1 us.
  [[nodiscard]] Range take();

 private:
  UniqueFd loadavg_;
  pid_t last_ = 0;  ///< 0: unknown
};

// What follows the exit of containers' anchor processes. An orphan is removed once all processes
// were looked at since the exit and none is left in it; Discovery makes one that is its new anchor.
// Owned by Discovery.
class OrphanSearch {
 public:
  struct Parts {  ///< all borrowed; they outlive this
    EventLoop& loop;
    const ProcDir& proc;
    ProcessFactsCache& facts;
    const Boundary& boundary;
    const ProcessTable& table;
    Registry& registry;
  };
  /// @param scan begins a look at these processes, whatever the pace allows
  OrphanSearch(const Parts& parts, std::move_only_function<void(ProcessTable::Known)> scan);

  /// Scans soon: there are orphans.
  void request();
  /// All processes were looked at since these had lost their anchors: removes those that are still
  /// orphans. One of which something is being read stays until request().
  void remove_dead(std::vector<ContainerKey> orphans);

 private:
  void scan();
  void remove_next();
  [[nodiscard]] bool expect_successors();

  EventLoop& loop_;
  const ProcDir& proc_;
  ProcessFactsCache& facts_;
  const Boundary& boundary_;
  const ProcessTable& table_;
  Registry& registry_;
  std::move_only_function<void(ProcessTable::Known)> start_scan_;
  TimePoint last_scan_{};
  Duration gap_{};
  std::vector<ContainerKey> dead_;  ///< still to be removed
  Timer scan_;
  Timer remove_;
};

/// What `status` shows of discovery.
struct DiscoveryFigures {
  std::uint64_t scans = 0;
  Duration spent{};  ///< CPU time of all scans
  Duration gap{};    ///< least time between two scans now
  std::size_t processes = 0;
  std::string exec_hints;              ///< "yes", or why not
  std::size_t foreign_namespaces = 0;  ///< of users other than ours and root
  std::size_t cgroup_watches = 0;
  bool mount_watch = false;
};

class Discovery final {
 public:
  struct Parts {  ///< all borrowed; they outlive this
    EventLoop& loop;
    const ProcDir& proc;
    ProcessFactsCache& facts;
    const Identifier& identifier;
    const Boundary& boundary;
    Registry& registry;
  };
  struct Options {
    double budget = 0.002;  ///< share of one core for all scans together
    /// A process of our own in some container, such as a broker.
    std::function<bool(pid_t)> is_ours = [](pid_t) { return false; };
    /// Where `ip netns` mounts its namespaces: each is a container, even without any process.
    std::string netns_folder = "/run/netns";
    bool exec_hints = true;
  };
  Discovery(const Parts& parts, Options options);
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;
  ~Discovery();

  /// Makes the first scan, so that all containers that exist are in the Registry when this returns.
  /// @return the failure to read /proc: there is no discovery then
  Result<void> start();

  /// Something may have begun: scans now and often for a second.
  void hint();
  void set_budget(double budget) { pace_.set_budget(budget); }

  /// Looks at processes that are new since the last look.
  void look_for_new();
  /// The container has a listener: the name that its program gives it is read once more, and is
  /// fixed then. @param id of the container
  void fix_name(std::string_view id);
  /// Pids seen in that namespace at the last look; ascending.
  [[nodiscard]] std::vector<pid_t> processes_in(std::uint64_t netns) const {
    return table_.pids_in(netns);
  }
  [[nodiscard]] DiscoveryFigures figures() const;
  [[nodiscard]] OptOuts& opt_outs() { return facts_.opt_outs(); }

 private:
  using Process = ProcessTable::Process;
  /// A look at all processes, which may take several turns of the loop.
  struct Scan {
    ProcessTable::Known known;
    Duration cost{};                    ///< CPU time so far
    std::vector<ContainerKey> orphans;  ///< when it began: only for these is its result valid
  };
  using Candidates = std::map<ContainerKey, std::vector<pid_t>>;

  void start_watches();
  void arm();
  void tick();
  Result<void> scan(ProcessTable::Known known);
  [[nodiscard]] bool continue_looks();
  void continue_scan();
  void finish_scan();
  void look_at_new_pids(TimePoint now);
  void look_at_recent(TimePoint now);
  void look_at_hinted();
  void look_at(std::span<const pid_t> pids, bool executed);
  void on_execs(std::span<const pid_t> pids, bool lost);
  void use_facts();

  void reconcile();
  [[nodiscard]] Candidates candidates() const;
  void find_anchor(const ContainerKey& key, std::span<const pid_t> pids);
  void use_anchor(const Process& process, const ContainerKey& key);
  void review_anchors();
  void identify_again(pid_t pid, const ContainerKey& key);

  EventLoop& loop_;
  const ProcDir& proc_;
  ProcessFactsCache& facts_;
  const Identifier& identifier_;
  const Boundary& boundary_;
  Registry& registry_;
  const bool want_exec_hints_;
  ProcessTable table_;
  ContainerInspector inspector_;
  OrphanSearch orphans_;
  ScanPace pace_;
  NewPids new_pids_;
  std::vector<pid_t> hinted_;  ///< executed, not yet looked at for want of credit
  std::optional<Scan> scan_;   ///< in progress
  std::optional<ProcessTable::Known> next_scan_;
  std::set<pid_t> have_facts_;  ///< pids of which facts have arrived
  bool started_ = false;
  Timer reconcile_;
  Timer tick_;
  Timer continue_;
  Timer use_facts_;
  ExecHints exec_hints_;
  MountWatch mounts_;
  CgroupWatch cgroups_;
};

}  // namespace portfwd
