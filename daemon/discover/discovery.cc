// See discovery.h.

#include "discover/discovery.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <ranges>

#include "base/process_usage.h"
#include "kernel/procfs.h"

namespace portfwd {

namespace {

using namespace std::chrono_literals;
using Known = ProcessTable::Known;

constexpr Duration kTick = 100ms;        // between two reads of the last pid
constexpr Duration kLeastPause = 50ms;   // combines the wake-ups of several recent processes
constexpr Duration kHintedTick = 250ms;  // with exec hints, which miss only a fork without exec
constexpr int kFew = 64;                 // new pids in a tick; more are left to a scan
constexpr int kVeryFew = 8;              // without hints, this many need no spare credit
constexpr std::size_t kMostHinted = 64;
constexpr Duration kOrphanGap = 5ms;  // between scans for orphans, which no budget delays
constexpr Duration kLongestOrphanGap = 30ms;
constexpr Duration kTurn = 2ms;       // of such work in a turn of the loop, then an equal pause
constexpr Duration kStartLimit = 1s;  // for reading the facts of processes
constexpr Duration kLongestReplacement = 2min;  // engines wait 10 s for an end by default

}  // namespace

// --- new pids ------------------------------------------------------------------------------------

NewPids::NewPids(const ProcDir& proc)
    : loadavg_(::open((proc.path() + "/loadavg").c_str(), O_RDONLY | O_CLOEXEC)) {}

/// Source: proc(5)
NewPids::Range NewPids::allocated_since_last_call() {
  std::array<char, 128> buffer{};
  const ssize_t n = ::pread(loadavg_.get(), buffer.data(), buffer.size(), 0);
  const std::size_t size = static_cast<std::size_t>(std::max<ssize_t>(n, 0));
  const pid_t last = procfs::parse_last_pid({buffer.data(), size}).value_or(0);
  if (last != 0 && last == last_) return {};
  const pid_t before = std::exchange(last_, last);
  const bool known = before != 0 && last > before;
  return known ? Range{before + 1, last, last - before} : Range{0, 0, INT_MAX};
}

// --- orphans -------------------------------------------------------------------------------------

OrphanSearch::OrphanSearch(const Parts& parts, std::move_only_function<void(Known)> scan)
    : loop_(parts.loop),
      proc_(parts.proc),
      facts_(parts.facts),
      boundary_(parts.boundary),
      table_(parts.table),
      registry_(parts.registry),
      start_scan_(std::move(scan)),
      scan_(parts.loop, [this] { this->scan(); }),
      remove_(parts.loop, [this] { remove_next(); }) {}

/// The scan begins in the next turn, when all anchor exits of this batch have been reported, so
/// that one scan serves them all. Exits in quick succession double the gap, up to
/// kLongestOrphanGap, so that the end of a container is still noticed within 50 ms.
void OrphanSearch::request() {
  if (scan_.armed()) return;
  const TimePoint now = loop_.now();
  const bool calm = now > last_scan_ + 1s;
  gap_ = calm ? kOrphanGap : std::min(gap_ * 2, kLongestOrphanGap);
  scan_.arm_at(std::max(now, last_scan_ + gap_));
}

void OrphanSearch::scan() {
  start_scan_(registry_.index().has_unseen_orphan() ? Known::All : Known::Seen);
  last_scan_ = loop_.now();
}

void OrphanSearch::remove_dead(std::vector<ContainerKey> orphans) {
  std::erase_if(orphans, [left = registry_.index().orphans()](const ContainerKey& key) {
    return std::ranges::find(left, key) == left.end();
  });
  const bool engines =
      std::ranges::any_of(orphans, [](const ContainerKey& key) { return !key.engine_id.empty(); });
  if (engines && !expect_successors()) return;
  std::erase_if(orphans, [this](const ContainerKey& key) {
    return std::ranges::any_of(table_.all(), [&key](const ProcessTable::Process& process) {
      return process.reading && process.netns == key.netns;
    });
  });
  dead_.insert(dead_.end(), orphans.begin(), orphans.end());
  remove_next();
}

/// Many containers may end at once, with many forwards each. The work is split over several turns.
void OrphanSearch::remove_next() {
  const TimePoint end = loop_.now() + kTurn;
  while (!dead_.empty() && loop_.now() < end) {
    const ContainerKey key = std::move(dead_.back());
    dead_.pop_back();
    const std::vector<ContainerKey> left = registry_.index().orphans();
    if (std::ranges::find(left, key) != left.end()) registry_.remove_dead(key);
  }
  if (!dead_.empty()) remove_.arm_after(kTurn);
}

/// Find running `podman run --replace` commands and note the containers that they will replace. A
/// container ends before its successor is made, and its forwards are removed with it, so the reason
/// of the removal must be known by then. `podman run --replace` waits for the end of the old
/// container and is therefore still running; compose makes its engine report the replacement
/// (ContainerEvent::replaces). `podman rm` followed by `podman run` cannot be recognised in time.
/// Rejected: to delay the notification until a successor may exist, which takes 200 ms and more and
/// would delay every removal of a forward.
///
/// The command line is read only for programs with the comm of podman, or "exe", podman's comm
/// after it has executed itself.
/// @return false while a command line is being read
bool OrphanSearch::expect_successors() {
  const TimePoint earliest = loop_.now() - kLongestReplacement;
  bool all_read = true;
  for (const ProcessTable::Process& process : table_.all()) {
    if (process.first_seen < earliest || !boundary_.is_ours(process.netns)) continue;
    const std::string program = proc_.comm(process.pid);
    if (program != "podman" && program != "podman-remote" && program != "exe") continue;
    const ProcessFacts* facts = facts_.of(process.pid);
    all_read = all_read && facts != nullptr;
    if (facts != nullptr) registry_.expect_successor("podman", facts->replaces);
  }
  return all_read;
}

// --- when to scan and check ----------------------------------------------------------------------

Discovery::Discovery(const Parts& parts, Options options)
    : loop_(parts.loop),
      proc_(parts.proc),
      facts_(parts.facts),
      identifier_(parts.identifier),
      boundary_(parts.boundary),
      registry_(parts.registry),
      want_exec_hints_(options.exec_hints),
      table_(parts.proc, parts.identifier, parts.boundary, std::move(options.is_ours)),
      inspector_({loop_, proc_, facts_, identifier_, boundary_, table_, mounts_},
                 std::move(options.netns_folder), [this] { reconcile(); }),
      orphans_({loop_, proc_, facts_, boundary_, table_, registry_},
               [this](Known known) { (void)scan(known); }),
      pace_(options.budget, parts.loop.now()),
      new_pids_(parts.proc),
      reconcile_(parts.loop, [this] { reconcile(); }),
      tick_(parts.loop, [this] { tick(); }),
      continue_(parts.loop, [this] { continue_scan(); }),
      use_facts_(parts.loop, [this] { use_facts(); }),
      exec_hints_(parts.loop,
                  [this](std::span<const pid_t> pids, bool lost) { on_execs(pids, lost); }),
      mounts_(parts.loop, parts.proc,
              [this] {
                registry_.set_paths(mounts_.paths());
                reconcile();
              }),
      cgroups_(parts.loop, [this] { hint(); }) {
  registry_.set_on_orphan([this] { orphans_.request(); });
  facts_.set_observer([this](pid_t pid) {
    pids_with_facts_.insert(pid);
    use_facts_.arm_now();
  });
}

Discovery::~Discovery() {
  registry_.set_on_orphan({});
  facts_.set_observer([](pid_t) {});
}

Result<void> Discovery::start() {
  assert(!started_);
  start_watches();  // before the scan, so that no container is missed in between
  auto scanned = scan(Known::All);
  while (scan_) continue_scan();  // may block: nothing else is served yet
  const TimePoint limit = loop_.now() + kStartLimit;
  while (loop_.now() < limit && facts_.wait(limit - loop_.now())) use_facts();
  started_ = true;
  arm();
  return scanned;
}

/// A watch that is not available only makes discovery slower. figures() shows which are active.
void Discovery::start_watches() {
  if (want_exec_hints_) exec_hints_.start();
  (void)mounts_.start();
  const std::string mountinfo = proc_.path() + "/self/mountinfo";
  const auto mounts =
      procfs::parse_mountinfo(read_text(AT_FDCWD, mountinfo.c_str(), 1 << 20).value_or(""));
  const auto own = procfs::parse_cgroup(proc_.read(::getpid(), "cgroup").value_or(""));
  (void)cgroups_.start(cgroup_base(own.empty() ? "" : own.front(), mounts));
}

void Discovery::arm() {
  const TimePoint now = loop_.now();
  const bool hinted = exec_hints_.are_granted();
  const bool expedited = pace_.expedited(now);
  const Duration longest = expedited ? ScanPace::kExpeditedGap : hinted ? kHintedTick : kTick;
  const Duration least = expedited ? Duration() : kLeastPause;
  const TimePoint recent_at = std::max(table_.recent_due(), pace_.spare_at(hinted));
  const TimePoint others_at =
      std::clamp(std::min(pace_.due(now), recent_at), now + least, now + longest);
  const TimePoint hinted_at =
      hinted_.empty() ? TimePoint::max() : std::max(now, pace_.affordable_at());
  tick_.arm_at(std::min(others_at, hinted_at));
}

void Discovery::tick() {
  const TimePoint now = loop_.now();
  check_new_pids(now);
  check_hinted();
  if (!scan_ && pace_.due(now) <= now) {
    (void)scan(pace_.full_due() <= now ? Known::All : Known::Recent);
  } else if (std::max(table_.recent_due(), pace_.spare_at(exec_hints_.are_granted())) <= now) {
    check_recent(now);
  }
  arm();
}

void Discovery::hint() {
  pace_.expedite(loop_.now());
  arm();
}

/// Without credit the processes wait for it. If they are too many, one scan replaces their checks.
void Discovery::on_execs(std::span<const pid_t> pids, bool lost) {
  if (hinted_.size() + pids.size() > kMostHinted) {
    hinted_.clear();
    pace_.request();
  } else {
    hinted_.insert(hinted_.end(), pids.begin(), pids.end());
  }
  check_hinted();
  if (lost) return hint();
  arm();
}

void Discovery::check_hinted() {
  if (hinted_.empty() || pace_.affordable_at() > loop_.now()) return;
  check_now(std::exchange(hinted_, {}), true);
}

/// Check a few new pids individually, which costs less than a scan. Without exec hints they are the
/// only sign of a new process. During a build there are hundreds a second, so more than kVeryFew in
/// a tick need spare credit.
void Discovery::check_new_pids(TimePoint now) {
  const NewPids::Range range = new_pids_.allocated_since_last_call();
  if (range.count == 0) return;
  const bool hinted = exec_hints_.are_granted();
  const bool spare_only = hinted || range.count > kVeryFew;
  const TimePoint due = spare_only ? pace_.spare_at(hinted) : pace_.affordable_at();
  if (range.count > kFew || now < due) return pace_.request();
  std::vector<pid_t> pids;
  for (pid_t pid = range.first; pid <= range.last; ++pid) {
    if (open_pidfd(pid)) pids.push_back(pid);  // fails for threads, which have pids as well
  }
  check_now(pids, !hinted);
}

void Discovery::check_recent(TimePoint now) {
  const Duration before = thread_cpu_time();
  table_.mark_due(now);
  (void)continue_checks();
  reconcile();
  pace_.charge_checks(now, thread_cpu_time() - before);
}

/// Check processes that have probably just executed a program. In a known container a listener may
/// follow; outside of one, the process may begin a container.
/// @param executed whether each of them is known to have called exec
void Discovery::check_now(std::span<const pid_t> pids, bool executed) {
  const TimePoint now = loop_.now();
  const Duration before = thread_cpu_time();
  bool unknown = false;
  for (const pid_t pid : pids) {
    const Process* process = table_.check_now(pid, now);
    if (process == nullptr || process->netns == 0) continue;
    if (boundary_.is_ours(process->netns)) continue;
    const ContainerKey key = registry_.index().key_for({process->netns, process->engine_id});
    facts_.renew(pid);
    if (registry_.index().anchor_of(key) == pid) {
      identify_again(pid, key);
    } else {
      (void)facts_.of(pid);  // reads the environment before the program's title overwrites it
    }
    if (executed) registry_.notify_sign_of_life(key);
    unknown = unknown || registry_.index().anchor_of(key) == 0;
  }
  const Duration after_checks = thread_cpu_time();
  pace_.charge_checks(now, after_checks - before);
  if (!unknown) return;
  reconcile();
  pace_.charge_scan_credit(thread_cpu_time() - after_checks);
}

void Discovery::check_new_processes() {
  const TimePoint now = loop_.now();
  const Duration before = thread_cpu_time();
  if (table_.refresh(now, Known::Recent)) {
    (void)continue_checks();
    reconcile();
  }
  // Listing all processes is charged as a scan, so that it does not delay checks after hints.
  pace_.charge_scan_credit(thread_cpu_time() - before);
  arm();
}

/// A user may start any number of processes, so a long scan continues in later turns. A scan that
/// is requested meanwhile follows it. After a failure to read /proc the next scan tries again.
Result<void> Discovery::scan(Known known) {
  if (scan_) {
    next_scan_ = std::max(known, next_scan_.value_or(known));
    return {};
  }
  const Duration before = thread_cpu_time();
  const TimePoint now = loop_.now();
  if (known == Known::All) inspector_.forget_outside();
  pace_.begin_scan();
  scan_ = Scan{.known = known, .orphans = registry_.index().orphans()};
  const auto listed = table_.refresh(now, known);
  if (listed) facts_.forget_unless([this](pid_t pid) { return table_.find(pid) != nullptr; });
  scan_->cost = thread_cpu_time() - before;
  if (listed) {
    continue_scan();
  } else {
    pace_.end_scan(now, std::exchange(scan_, {})->cost, known == Known::All);
  }
  return listed;
}

/// @return whether all processes have been checked
bool Discovery::continue_checks() {
  const TimePoint end = loop_.now() + kTurn;
  return table_.continue_checks([&] { return loop_.now() >= end; });
}

void Discovery::continue_scan() {
  assert(scan_);
  const Duration before = thread_cpu_time();
  const bool done = continue_checks();
  if (!done) review_anchors();
  scan_->cost += thread_cpu_time() - before;
  if (done) return finish_scan();
  continue_.arm_after(kTurn);
}

/// No container is removed while file descriptors are short: it may have processes, of which none
/// could be pinned. A later scan decides.
void Discovery::finish_scan() {
  const Duration before = thread_cpu_time();
  continue_.disarm();
  Scan scan = *std::exchange(scan_, {});
  reconcile();
  if (reconcile_.armed()) {
    if (!scan.orphans.empty()) orphans_.request();  // reconcile() may still find their anchors
  } else if (scan.known != Known::Recent && !inspector_.take_shortage()) {
    orphans_.remove_dead(std::move(scan.orphans));
  }
  pace_.end_scan(loop_.now(), scan.cost + thread_cpu_time() - before, scan.known == Known::All);
  if (const auto next = std::exchange(next_scan_, {})) (void)this->scan(*next);
  arm();
}

/// Use facts of processes that have arrived: the engine of a process, the name of a new container,
/// the expected successor of an orphan.
void Discovery::use_facts() {
  const Duration before = thread_cpu_time();
  use_facts_.disarm();
  std::set<pid_t> pids = std::exchange(pids_with_facts_, {});
  pids.merge(identifier_.take_incomplete());
  table_.recheck_incomplete();
  for (const auto& [key, pid] : registry_.index().anchors()) {
    if (pids.contains(pid)) identify_again(pid, key);
  }
  reconcile();
  if (!registry_.index().orphans().empty()) orphans_.request();
  pace_.charge_scan_credit(thread_cpu_time() - before);
}

// --- from processes to the registry --------------------------------------------------------------

/// Bring the Registry up to date with the process table and the named namespaces. In a namespace
/// the containers with an engine's id come first (they are last in the map), because processes
/// without one may belong to them. The work is split over several turns, except at the start, when
/// nothing else is served yet.
void Discovery::reconcile() {
  reconcile_.disarm();
  review_anchors();
  const TimePoint end = started_ ? loop_.now() + kTurn : TimePoint::max();
  for (const auto& [key, pids] : std::views::reverse(candidates())) {
    if (loop_.now() >= end) {
      reconcile_.arm_after(kTurn);
      break;
    }
    find_anchor(key, pids);
  }
  for (const auto& [netns, path] : mounts_.paths()) {
    if (registry_.index().contains({netns, ""})) continue;
    if (auto found = inspector_.describe_named(netns, path)) registry_.add(std::move(*found));
  }
}

/// The containers that have processes but no anchor, known or not. A container without an engine's
/// id is left out while the facts of any process in its namespace are being read: that process may
/// belong to an engine's container, and the namespace with it. On the host's network only processes
/// of engines' containers count. Processes of other users count only in known containers.
Discovery::Candidates Discovery::candidates() const {
  const ContainerIndex& known = registry_.index();
  Candidates candidates;
  std::set<std::uint64_t> being_read;
  std::map<std::uint64_t, bool> foreign;  // by namespace: whether its first process is
  for (const Process& process : table_.all()) {
    if (process.reading) being_read.insert(process.netns);
    if (process.netns == 0 || process.reading) continue;
    if (inspector_.is_outside(process.netns)) continue;
    const ContainerKey own{process.netns, process.engine_id};
    const bool of_engine =
        !own.engine_id.empty() && (known.contains(own) || !known.has_engine_id(own.engine_id));
    if (boundary_.is_ours(process.netns) && !of_engine) continue;
    ContainerKey key = known.key_for(own);
    const bool foreigners = foreign.try_emplace(process.netns, process.foreign).first->second;
    if ((foreigners || process.foreign) && !known.contains(key)) continue;
    if (known.anchor_of(key) == 0) candidates[std::move(key)].push_back(process.pid);
  }
  std::erase_if(candidates, [&](const auto& one) {
    return one.first.engine_id.empty() && being_read.contains(one.first.netns);
  });
  return candidates;
}

/// Make the first process that does not only serve the engine the container's anchor.
void Discovery::find_anchor(const ContainerKey& key, std::span<const pid_t> pids) {
  const ContainerIndex& known = registry_.index();
  const bool others = key.engine_id.empty() && known.first_in(key.netns).value_or(key) != key;
  if (others && !known.contains(key)) return;
  for (const pid_t pid : pids) {
    if (inspector_.is_engine_process(pid)) continue;
    const Process* process = table_.find(pid);
    if (process == nullptr) continue;
    if (!known.contains(key) && !identifier_.identify(pid).complete) return;  // use_facts() follows
    use_anchor(*process, key);
    if (known.anchor_of(key) != 0 || inspector_.is_outside(key.netns)) return;
  }
}

/// Make the process the anchor of its container. Add the container if it is not known.
void Discovery::use_anchor(const Process& process, const ContainerKey& key) {
  auto found = inspector_.pin(process, key.netns);
  if (!found) return;
  if (registry_.index().contains(key)) {
    registry_.replace_anchor(key, process.pid, std::move(found->pidfd));
  } else if (inspector_.describe(*found, process, key)) {
    registry_.add(std::move(*found));
  }
}

/// Check the anchors among the processes that were just checked. A container is often found while
/// its runtime still prepares it, and gets its final name only when the program is executed. An
/// anchor may also have left its namespace.
void Discovery::review_anchors() {
  if (table_.checked_pids().empty()) return;
  for (const auto& [key, pid] : registry_.index().anchors()) {
    if (!std::ranges::binary_search(table_.checked_pids(), pid)) continue;
    const Process* process = table_.find(pid);
    if (process == nullptr) continue;  // its pidfd reports the exit
    const ContainerKey own{process->netns, process->engine_id};
    if (own.netns != key.netns || (own != key && registry_.index().contains(own))) {
      registry_.drop_anchor(key);
      orphans_.request();
    } else if (own.netns != 0 && ProcessTable::is_recent(*process, loop_.now())) {
      facts_.renew(pid);
      identify_again(pid, key);
    }
  }
}

/// Update the container's identity. Nothing changes while facts are being read; use_facts() calls
/// this again.
void Discovery::identify_again(pid_t pid, const ContainerKey& key) {
  const Identity identity = inspector_.identity_of(pid, key.netns);
  if (identity.complete) registry_.identify(key, identity);
}

void Discovery::fix_name(std::string_view id) {
  const ContainerEntry* entry = registry_.index().find_by_id(id);
  if (entry == nullptr || entry->has_final_name()) return;
  if (entry->has_anchor()) identify_again(entry->container.pid, ContainerKey(entry->key));
  registry_.fix_name(id);
}

DiscoveryFigures Discovery::figures() const {
  std::set<std::uint64_t> foreign;
  for (const Process& process : table_.all()) {
    if (process.foreign) foreign.insert(process.netns);
  }
  return {pace_.scans(),
          pace_.spent(),
          pace_.gap(loop_.now()),
          table_.all().size(),
          want_exec_hints_ ? exec_hints_.state() : "no: disabled",
          foreign.size(),
          cgroups_.watches(),
          mounts_.watching()};
}

}  // namespace portfwd
