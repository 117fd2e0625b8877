// Finds the containers of this machine without asking any engine, and tells the Registry. Owned by
// main. It knows processes and namespaces; what listens in them is not its business.
//
// Truth comes from /proc: which processes there are, and which network namespace each is in. An
// exec hint names a process, and a few new pids are known by their numbers: these are looked at
// alone, at once. A scan is due when the kernel has given out more pids than that, paced by what
// scans cost. What is there and what the Registry has are compared after each look, so a lost hint
// costs time and nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "discover/cgroup_watch.h"
#include "discover/exec_hints.h"
#include "discover/mount_watch.h"
#include "discover/process_table.h"
#include "discover/registry.h"
#include "discover/scan_pace.h"
#include "event/event_loop.h"

namespace portfwd {

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
