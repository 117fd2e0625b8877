// Discovery of the containers of this machine, without their engines. Adds containers to the
// Registry and removes them. Owned by main. It works on processes and namespaces, and has no
// knowledge of listeners.
//
// The source is /proc: the processes and the network namespace of each. The processes that an exec
// hint names, and those of a few new pids, are checked individually and at once. After more new
// pids than that, a scan of all processes is due; ScanPace limits its rate by its cost. After each
// check and scan the result is compared with the Registry, so a lost hint only causes a delay.
//
// ProcessTable determines the namespace of each process, ContainerInspector whether that is a
// container and its name, OrphanSearch whether a container has ended.
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

// Rate limit of scans and checks: a scan is due as soon as it is requested, but not before the
// least gap has passed and there is CPU credit. Credit grows with time at the rate of the budget
// and is spent by measured cost. A calm machine has saved some, so a burst is handled at once; a
// busy one spends no more than the budget. Pure; owned by Discovery.
//
// One half of the budget is for scans of all processes, the other for checks of single processes,
// so that an expensive scan does not delay the check of a process that a hint has named.
class ScanPace {
 public:
  static constexpr Duration kGap = std::chrono::milliseconds(100);
  static constexpr Duration kExpeditedGap = std::chrono::milliseconds(20);
  static constexpr Duration kExpeditedFor = std::chrono::seconds(1);    ///< after expedite()
  static constexpr Duration kFullInterval = std::chrono::seconds(5);    ///< between full scans
  static constexpr Duration kMostSaved = std::chrono::seconds(5);       ///< budget of this time
  static constexpr Duration kMostOwed = std::chrono::seconds(1);        ///< longest wait for credit
  static constexpr Duration kWakeCost = std::chrono::microseconds(25);  ///< see Pace::kWakeCost
  /// Longest time that processes named by a hint wait for credit. While many programs start, they
  /// are checked in batches at this interval. ExecHints limits their number.
  static constexpr Duration kBatchInterval = std::chrono::milliseconds(40);

  /// @param budget share of one core, such as 0.002; more than 0
  ScanPace(double budget, TimePoint now) : last_(now - kFullInterval), full_(last_) {
    set_budget(budget);
    credit_ = check_credit_ = share_of(kMostSaved);
    check_credit_updated_ = now;
  }
  void set_budget(double budget) {
    assert(budget > 0);
    budget_ = budget;
  }

  void request() { requested_ = true; }
  /// Request scans at short intervals for kExpeditedFor: what a hint announces may appear in /proc
  /// only after some time.
  void expedite(TimePoint now) {
    requested_ = true;
    expedited_until_ = now + kExpeditedFor;
  }
  [[nodiscard]] bool expedited(TimePoint now) const { return now < expedited_until_; }

  /// Time of the next scan; without a request, of the next full one.
  [[nodiscard]] TimePoint due(TimePoint now) const {
    return requested_ ? std::min(last_ + gap(now), full_due()) : full_due();
  }
  [[nodiscard]] TimePoint full_due() const { return full_ + kFullInterval; }
  /// Least time between the last scan and the next.
  [[nodiscard]] Duration gap(TimePoint now) const {
    const Duration owed = time_to_earn(std::max(-credit_, Duration()));
    return std::max(expedited(now) ? kExpeditedGap : kGap, owed);
  }

  /// Requests made from now on are for the scan after this one.
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
  /// Charge checks of single processes. @param cost CPU time, without the wake-up
  void charge_checks(TimePoint now, Duration cost) {
    const Duration earned = check_credit_ + share_of(now - check_credit_updated_);
    check_credit_ =
        std::max(std::min(earned, share_of(kMostSaved)) - cost - kWakeCost, -share_of(kMostOwed));
    check_credit_updated_ = now;
    spent_ += cost + kWakeCost;
  }
  /// Charge work that follows from a check, such as adding a container. It delays the next scan.
  void charge_scan_credit(Duration cost) {
    credit_ = std::max(credit_ - cost, -share_of(kMostOwed));
    spent_ += cost;
  }
  /// When processes that a hint has named may be checked; in the past if now.
  [[nodiscard]] TimePoint affordable_at() const {
    return std::min(has_check_credit_at(Duration()), check_credit_updated_ + kBatchInterval);
  }
  /// When other processes may be checked. @param hinted exec hints arrive: half of kMostSaved is
  /// reserved for them, so that hundreds of short-lived processes of a build do not delay the check
  /// of a new container
  [[nodiscard]] TimePoint spare_at(bool hinted) const {
    return has_check_credit_at(hinted ? share_of(kMostSaved) / 2 : Duration());
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
  [[nodiscard]] TimePoint has_check_credit_at(Duration level) const {
    if (check_credit_ >= level) return TimePoint::min();
    return check_credit_updated_ + time_to_earn(level - check_credit_);
  }

  double budget_ = 0;
  TimePoint last_;
  TimePoint full_;
  TimePoint expedited_until_{};
  Duration credit_{};                 ///< for scans
  Duration check_credit_{};           ///< for checks of single processes
  TimePoint check_credit_updated_{};  ///< when check_credit_ was last updated
  Duration spent_{};
  std::uint64_t scans_ = 0;
  bool requested_ = true;
};

// The pids that the kernel has allocated recently, from /proc/loadavg. Owned by Discovery.
class NewPids {
 public:
  explicit NewPids(const ProcDir& proc);

  /// The pids from `first` to `last`. `count` is INT_MAX if the range is unknown.
  struct Range {
    pid_t first = 0;
    pid_t last = 0;
    int count = 0;
  };
  /// The pids allocated since the last call; unknown on the first one. Costs 1 us.
  [[nodiscard]] Range allocated_since_last_call();

 private:
  UniqueFd loadavg_;
  pid_t last_ = 0;  ///< 0: unknown
};

// Search for remaining processes of orphans (see registry.h). After a scan that began after the
// exit of the anchor, an orphan in which no process was found is removed. If there is one,
// Discovery makes it the new anchor. Owned by Discovery.
class OrphanSearch {
 public:
  struct Parts {  ///< all borrowed; must outlive this
    EventLoop& loop;
    const ProcDir& proc;
    ProcessFactsCache& facts;
    const Boundary& boundary;
    const ProcessTable& table;
    Registry& registry;
  };
  /// @param scan begins a scan of these processes, regardless of the pace
  OrphanSearch(const Parts& parts, std::move_only_function<void(ProcessTable::Known)> scan);

  /// Scan soon, as there are orphans.
  void request();
  /// Remove those of `orphans` that have not got an anchor. They must have been orphans before the
  /// scan that has just ended. Those that wait for facts being read stay until the next scan.
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

/// Figures of discovery for `status`.
struct DiscoveryFigures {
  std::uint64_t scans = 0;
  Duration spent{};  ///< CPU time of all scans and checks
  Duration gap{};    ///< present least time between two scans
  std::size_t processes = 0;
  std::string exec_hints;              ///< "yes", or why not
  std::size_t foreign_namespaces = 0;  ///< of users other than the daemon's and root
  std::size_t cgroup_watches = 0;
  bool mount_watch = false;
};

class Discovery final {
 public:
  struct Parts {  ///< all borrowed; must outlive this
    EventLoop& loop;
    const ProcDir& proc;
    ProcessFactsCache& facts;
    const Identifier& identifier;
    const Boundary& boundary;
    Registry& registry;
  };
  struct Options {
    double budget = 0.002;  ///< share of one core for all scans and checks together
    /// Whether the process is the daemon's own, such as a broker in a container.
    std::function<bool(pid_t)> is_ours = [](pid_t) { return false; };
    /// Where `ip netns` mounts its namespaces: each is a container, even without processes.
    std::string netns_folder = "/run/netns";
    bool exec_hints = true;
  };
  Discovery(const Parts& parts, Options options);
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;
  ~Discovery();

  /// Make the first scan. On return the containers that exist are in the Registry, except those
  /// that need a second check and those whose facts were not read within kStartLimit.
  /// @return the error of reading /proc
  Result<void> start();

  /// Scan soon, and at short intervals for a second: a container may be starting.
  void hint();
  void set_budget(double budget) { pace_.set_budget(budget); }

  /// Check the processes that are new since the last scan.
  void check_new_processes();
  /// Determine the container's name by /proc once more, then fix it: the container has a listener.
  /// @param id of the container
  void fix_name(std::string_view id);
  /// Pids that were in the namespace at their last check; ascending.
  [[nodiscard]] std::vector<pid_t> processes_in(std::uint64_t netns) const {
    return table_.pids_in(netns);
  }
  /// The id of the process's cgroup (see cgroup_id_of); 0 when unknown.
  [[nodiscard]] std::uint64_t cgroup_of(pid_t pid) const { return identifier_.cgroup_of(pid); }
  [[nodiscard]] DiscoveryFigures figures() const;
  [[nodiscard]] OptOuts& opt_outs() { return facts_.opt_outs(); }

 private:
  using Process = ProcessTable::Process;
  /// A scan, possibly over several turns of the loop.
  struct Scan {
    ProcessTable::Known known;
    Duration cost{};                    ///< CPU time so far
    std::vector<ContainerKey> orphans;  ///< when it began; the result is valid for these only
  };
  using Candidates = std::map<ContainerKey, std::vector<pid_t>>;

  void start_watches();
  void arm();
  void tick();
  Result<void> scan(ProcessTable::Known known);
  [[nodiscard]] bool continue_checks();
  void continue_scan();
  void finish_scan();
  void check_new_pids(TimePoint now);
  void check_recent(TimePoint now);
  void check_hinted();
  void check_now(std::span<const pid_t> pids, bool executed);
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
  std::vector<pid_t> hinted_;  ///< have called exec; wait for credit to be checked
  std::optional<Scan> scan_;   ///< in progress
  std::optional<ProcessTable::Known> next_scan_;
  std::set<pid_t> pids_with_facts_;  ///< pids whose facts have arrived, not used yet
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
