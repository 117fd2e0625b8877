// Finds the containers of this machine without asking any engine, and tells the Registry. Owned by
// main. It knows processes and namespaces; what listens in them is not its business.
//
// Truth comes from /proc: which processes there are, and which network namespace each is in. An
// exec hint names a process, and a few new pids are known by their numbers: these are looked at
// alone, at once. A scan is due when the kernel has given out more pids than that, paced by what
// scans cost. What is there and what the Registry has are compared after each look, so a lost hint
// costs time and nothing else.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "discover/hints.h"
#include "discover/process_table.h"
#include "discover/registry.h"
#include "event/event_loop.h"

namespace portfwd {

// When to look at /proc: as soon as there is reason to, but no oftener than the shortest gap and
// the CPU budget allow. The budget is credit that grows with time and is spent by measured cost, so
// a calm machine answers a burst at once and a busy one pays no more than its share. Pure; owned by
// Discovery.
//
// One half of the budget is for scans of all processes, the other for looks at single processes: a
// scan that was dear must not delay the look at a process whose pid a hint has named.
class ScanPace {
 public:
  static constexpr Duration kGap = std::chrono::milliseconds(100);
  static constexpr Duration kHurriedGap = std::chrono::milliseconds(20);
  static constexpr Duration kHurry = std::chrono::seconds(1);  ///< how long a hint lasts
  static constexpr Duration kFull = std::chrono::seconds(5);   ///< between full looks
  static constexpr Duration kSaved = std::chrono::seconds(5);  ///< so long a budget is kept
  static constexpr Duration kWakeCost = std::chrono::microseconds(25);  ///< see Pace::kWakeCost
  static constexpr Duration kOwed = std::chrono::seconds(1);  ///< the longest wait for a budget
  /// The same for a look at what a hint has named: while programs start by the dozen they are
  /// looked at in lots. How many there may be is ExecHints' business.
  static constexpr Duration kLot = std::chrono::milliseconds(40);

  /// @param budget share of one core, such as 0.002; more than 0
  ScanPace(double budget, TimePoint now) : budget_(budget), last_(now - kFull), full_(last_) {
    credit_ = look_credit_ = share_of(kSaved);
    looked_ = now;
  }
  void set_budget(double budget) { budget_ = budget; }

  void want() { wanted_ = true; }
  /// A hint from outside /proc: what it announces may take some time to appear.
  void hurry(TimePoint now) {
    wanted_ = true;
    hurry_until_ = now + kHurry;
  }
  [[nodiscard]] bool hurrying(TimePoint now) const { return now < hurry_until_; }

  /// When the next look may be; that of the next full one while there is no reason for any.
  [[nodiscard]] TimePoint due(TimePoint now) const {
    return wanted_ ? std::min(last_ + gap(now), full_due()) : full_due();
  }
  [[nodiscard]] TimePoint full_due() const { return full_ + kFull; }
  /// Least time from the last look to the next.
  [[nodiscard]] Duration gap(TimePoint now) const {
    const Duration owed = time_to_earn(std::max(-credit_, Duration()));
    return std::max(hurrying(now) ? kHurriedGap : kGap, owed);
  }

  /// A scan begins: what is wanted from now on is wanted of the next one.
  void begin() { wanted_ = false; }
  /// @param cost CPU time that the look took
  void done(TimePoint now, Duration cost, bool full) {
    const Duration earned = credit_ + share_of(now - last_);
    credit_ = std::max(std::min(earned, share_of(kSaved)) - cost, -share_of(kOwed));
    last_ = now;
    if (full) full_ = now;
    ++scans_;
    spent_ += cost;
  }
  /// Looks at single processes. @param cost CPU time, the wake-up for it left out
  void charge(TimePoint now, Duration cost) {
    const Duration earned = look_credit_ + share_of(now - looked_);
    look_credit_ =
        std::max(std::min(earned, share_of(kSaved)) - cost - kWakeCost, -share_of(kOwed));
    looked_ = now;
    spent_ += cost + kWakeCost;
  }
  /// Work that a look has led to, such as to take in a container; the next scan waits for it.
  void charge_scans(Duration cost) {
    credit_ = std::max(credit_ - cost, -share_of(kOwed));
    spent_ += cost;
  }
  /// When those may be done that a hint has named; in the past when now.
  [[nodiscard]] TimePoint affordable_at() const {
    return std::min(has_look_credit_at(Duration()), looked_ + kLot);
  }
  /// When others may be done. @param hinted half of what can be saved is left to hints then, so
  /// that a build's hundreds of young processes do not put off the look at a new container
  [[nodiscard]] TimePoint spare_at(bool hinted) const {
    return has_look_credit_at(hinted ? share_of(kSaved) / 2 : Duration());
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

  double budget_;
  TimePoint last_;
  TimePoint full_;
  TimePoint hurry_until_{};
  Duration credit_{};       ///< for scans
  Duration look_credit_{};  ///< for looks at single processes
  TimePoint looked_{};      ///< when look_credit_ was brought up to date
  Duration spent_{};
  std::uint64_t scans_ = 0;
  bool wanted_ = true;
};

/// What `status` tells of discovery.
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

class Discovery final : private Census {
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
    /// Where `ip netns` mounts its namespaces: one there is a container without any process.
    std::string netns_folder = "/run/netns";
    bool exec_hints = true;
  };
  Discovery(const Parts& parts, Options options);
  Discovery(const Discovery&) = delete;
  Discovery& operator=(const Discovery&) = delete;
  ~Discovery();

  /// Makes the first scan, so that what is there already is in the Registry when this returns.
  /// @return the failure to read /proc: there is no discovery then
  Result<void> start();

  /// Something may have begun: scan now and often for a second.
  void hint();
  void set_budget(double budget) { pace_.set_budget(budget); }

  /// Takes in processes that have come since the last look.
  void look_for_new();
  /// Pids seen in that namespace at the last look; ascending.
  [[nodiscard]] std::vector<pid_t> processes_in(std::uint64_t netns) const;
  [[nodiscard]] DiscoveryFigures figures() const;
  [[nodiscard]] OptOuts& opt_outs() { return facts_.opt_outs(); }

 private:
  using Process = ProcessTable::Process;
  /// A look at all processes, which may take several turns of the loop.
  struct Scan {
    ProcessTable::Known known;
    Duration cost{};                    ///< CPU time so far
    std::vector<ContainerKey> orphans;  ///< when it began: only for these is it an answer
  };
  using Candidates = std::map<ContainerKey, std::vector<pid_t>>;

  void on_orphans() override;
  [[nodiscard]] Identity identify(pid_t pid, const ContainerKey& key) const override;
  void tick();
  [[nodiscard]] TimePoint young_due() const;
  [[nodiscard]] TimePoint new_pids_due(pid_t count) const;
  void look_at_young(TimePoint now);
  void recount();
  Result<void> scan(ProcessTable::Known known);
  [[nodiscard]] bool look_on(Duration limit);
  void go_on_scanning();
  void finish_scan();
  void arm();
  [[nodiscard]] std::optional<pid_t> last_pid() const;
  void look_at_new_pids(TimePoint now);

  void on_execs(std::span<const pid_t> pids, bool lost);
  void look_at(std::span<const pid_t> pids, bool executed);
  void on_facts(pid_t pid);
  void use_facts();
  void on_mounts();
  void start_watches();

  void reconcile();
  void give_up_more();
  void give_up_orphans(std::vector<ContainerKey> orphans);
  [[nodiscard]] bool note_replacements();
  [[nodiscard]] bool runs_on_host(const Process& process) const;
  [[nodiscard]] Candidates unanchored() const;
  [[nodiscard]] ContainerKey key_of(const Process& process) const;
  void take(const ContainerKey& key, std::span<const pid_t> pids);
  void adopt(pid_t pid, const ContainerKey& key);
  void adopt_unseen(pid_t pid, const ContainerKey& key);
  [[nodiscard]] bool stays_so(pid_t pid, std::uint64_t netns);
  void look_again();
  void adopt_on_host(const Process& process, const ContainerKey& key);
  void adopt_named(std::uint64_t netns, const std::string& path);
  void review_young_anchors();
  void identify_again(pid_t pid, const ContainerKey& key);
  [[nodiscard]] bool engine_publishes(std::uint64_t netns) const;
  [[nodiscard]] bool is_rootlessport(pid_t pid) const;
  [[nodiscard]] Identity identity_of(pid_t pid, std::uint64_t netns) const;

  EventLoop& loop_;
  const ProcDir& proc_;
  ProcessFactsCache& facts_;
  const Identifier& identifier_;
  const Boundary& boundary_;
  Registry& registry_;
  ProcessTable table_;
  const std::string netns_folder_;
  const bool want_exec_hints_;
  ScanPace pace_;
  std::set<std::uint64_t> outside_;  ///< of no concern; forgotten at each full scan
  /// Namespaces that could not be seen or entered so far and are not announced, and since when.
  std::map<std::uint64_t, TimePoint> unseen_since_;
  pid_t last_pid_ = 0;
  std::vector<pid_t> owed_;  ///< executed, not yet looked at: there was no credit
  TimePoint last_recount_{};
  Duration recount_gap_{};
  UniqueFd loadavg_;
  Timer second_look_;
  std::optional<Scan> scan_;  ///< that has begun
  std::optional<ProcessTable::Known> next_scan_;
  std::vector<ContainerKey> leaving_;  ///< orphans for which nobody is left
  Timer give_up_;
  Timer take_more_;
  bool started_ = false;
  Timer tick_;
  Timer go_on_;
  Timer recount_;
  bool short_ = false;    ///< of descriptors, when a process was to be held
  std::set<pid_t> told_;  ///< whose facts have come
  Timer use_facts_;
  ExecHints exec_hints_;
  MountWatch mounts_;
  CgroupWatch cgroups_;
};

}  // namespace portfwd
