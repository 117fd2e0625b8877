// See discovery.h: when to look. What a look means for the Registry is in reconcile.cc.

#include "discover/discovery.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/process_usage.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"

namespace portfwd {

namespace {

using namespace std::chrono_literals;

constexpr Duration kTick = 100ms;        // between two looks at the last pid, 1 us each
constexpr Duration kLeastPause = 50ms;   // each young process would wake us at its own times
constexpr Duration kHintedTick = 250ms;  // where exec hints come: only a fork without exec waits
constexpr pid_t kFew = 64;               // pids between two ticks
constexpr pid_t kVeryFew = 8;            // of these, credit or not
constexpr Duration kRecountGap = 5ms;  // between scans for lost anchors: no budget may delay these
constexpr Duration kLongestRecountGap = 30ms;
constexpr Duration kTurn = 2ms;       // of looks in a turn of the loop, then so long of none
constexpr Duration kStartLimit = 1s;  // for what processes say of themselves

}  // namespace

Discovery::Discovery(const Parts& parts, Options options)
    : loop_(parts.loop),
      proc_(parts.proc),
      facts_(parts.facts),
      identifier_(parts.identifier),
      boundary_(parts.boundary),
      registry_(parts.registry),
      table_(parts.proc, parts.identifier, parts.boundary, std::move(options.is_ours)),
      netns_folder_(std::move(options.netns_folder)),
      want_exec_hints_(options.exec_hints),
      pace_(options.budget, parts.loop.now()),
      loadavg_(::open((parts.proc.path() + "/loadavg").c_str(), O_RDONLY | O_CLOEXEC)),
      second_look_(parts.loop, [this] { look_again(); }),
      give_up_(parts.loop, [this] { give_up_more(); }),
      take_more_(parts.loop, [this] { reconcile(); }),
      tick_(parts.loop, [this] { tick(); }),
      go_on_(parts.loop, [this] { go_on_scanning(); }),
      recount_(parts.loop, [this] { recount(); }),
      use_facts_(parts.loop, [this] { use_facts(); }),
      exec_hints_(parts.loop,
                  [this](std::span<const pid_t> pids, bool lost) { on_execs(pids, lost); }),
      mounts_(parts.loop, parts.proc, [this] { on_mounts(); }),
      cgroups_(parts.loop, [this] { hint(); }) {
  registry_.set_census(this);
  facts_.set_observer([this](pid_t pid) { on_facts(pid); });
}

Discovery::~Discovery() {
  registry_.set_census(nullptr);
  facts_.set_observer([](pid_t) {});
}

Result<void> Discovery::start() {
  start_watches();  // first, so that nothing begins between the scan and them
  (void)last_pid();
  auto scanned = scan(ProcessTable::Known::Anyone);
  while (scan_) go_on_scanning();  // nobody is served yet
  const TimePoint limit = loop_.now() + kStartLimit;
  while (loop_.now() < limit && facts_.wait(limit - loop_.now())) use_facts();
  started_ = true;
  arm();
  return scanned;
}

/// What is not to be had only makes discovery slower; figures() tells which it is.
void Discovery::start_watches() {
  if (want_exec_hints_) exec_hints_.start();
  (void)mounts_.start();
  const std::string mountinfo = proc_.path() + "/self/mountinfo";
  const auto mounts =
      procfs::parse_mountinfo(read_text(AT_FDCWD, mountinfo.c_str(), 1 << 20).value_or(""));
  const auto own = procfs::parse_cgroup(proc_.read(::getpid(), "cgroup").value_or(""));
  (void)cgroups_.start(cgroup_base(own.empty() ? "" : own.front(), mounts));
}

void Discovery::hint() {
  pace_.hurry(loop_.now());
  arm();
}

/// @return what loadavg says now; nothing when it cannot be read. Source: proc(5)
std::optional<pid_t> Discovery::last_pid() const {
  std::array<char, 128> buffer{};
  const ssize_t n = ::pread(loadavg_.get(), buffer.data(), buffer.size(), 0);
  return procfs::parse_last_pid({buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))});
}

/// A few new pids are looked at one by one, which costs less than a scan.
void Discovery::look_at_new_pids(TimePoint now) {
  const auto last = last_pid();
  if (last && *last == last_pid_) return;
  const pid_t before = std::exchange(last_pid_, last.value_or(0));
  const bool few = last && before != 0 && *last > before && *last - before <= kFew;
  if (!few || now < new_pids_due(*last - before)) return pace_.want();
  std::vector<pid_t> pids;
  for (pid_t pid = before + 1; pid <= *last; ++pid) {
    if (open_pidfd(pid)) pids.push_back(pid);  // a thread has a number, too, but no pidfd
  }
  look_at(pids, !exec_hints_.come());
}

void Discovery::tick() {
  const TimePoint now = loop_.now();
  look_at_new_pids(now);
  if (!owed_.empty() && pace_.affordable_at() <= now) look_at(std::exchange(owed_, {}), true);
  if (!scan_ && pace_.due(now) <= now) {
    using Known = ProcessTable::Known;
    (void)scan(pace_.full_due() <= now ? Known::Anyone : Known::Young);
  } else if (young_due() <= now) {
    look_at_young(now);
  }
  arm();
}

TimePoint Discovery::young_due() const {
  return std::max(table_.young_due(), pace_.spare_at(exec_hints_.come()));
}

/// New pids are the only hints where the kernel gives no others, and as it gives out hundreds a
/// second in a build, many of them wait for credit.
TimePoint Discovery::new_pids_due(pid_t count) const {
  const bool hinted = exec_hints_.come();
  return hinted || count > kVeryFew ? pace_.spare_at(hinted) : pace_.affordable_at();
}

void Discovery::look_at_young(TimePoint now) {
  const Duration before = thread_cpu_time();
  table_.note_due(now);
  (void)look_on(kTurn);
  reconcile();
  pace_.charge(now, thread_cpu_time() - before);
}

void Discovery::arm() {
  const TimePoint now = loop_.now();
  const Duration calm = exec_hints_.come() ? kHintedTick : kTick;
  const Duration pause = pace_.hurrying(now) ? ScanPace::kHurriedGap : calm;
  const TimePoint soonest = std::min(pace_.due(now), young_due());
  const Duration least = pace_.hurrying(now) ? Duration() : kLeastPause;
  const TimePoint others_at = std::clamp(soonest, now + least, now + pause);
  const TimePoint owed_at = owed_.empty() ? TimePoint::max() : std::max(now, pace_.affordable_at());
  tick_.arm_at(std::min(others_at, owed_at));
}

/// A /proc that fails once is read again. How many processes there are is anybody's choice, so a
/// scan goes on in the next turn; one that is asked for meanwhile follows it.
Result<void> Discovery::scan(ProcessTable::Known known) {
  if (scan_) {
    next_scan_ = std::max(known, next_scan_.value_or(known));
    return {};
  }
  const Duration before = thread_cpu_time();
  const TimePoint now = loop_.now();
  if (known == ProcessTable::Known::Anyone) {
    outside_.clear();
  }
  pace_.begin();
  scan_ = Scan{.known = known, .orphans = registry_.orphans()};
  const auto listed = table_.refresh(now, known);
  if (listed) facts_.forget_unless([this](pid_t pid) { return table_.find(pid) != nullptr; });
  scan_->cost = thread_cpu_time() - before;
  if (listed) {
    go_on_scanning();
  } else {
    pace_.done(now, std::exchange(scan_, {})->cost, known == ProcessTable::Known::Anyone);
  }
  return listed;
}

/// @return whether all have been looked at
bool Discovery::look_on(Duration limit) {
  const TimePoint end = loop_.now() + limit;
  return table_.look_on([&] { return loop_.now() >= end; });
}

void Discovery::go_on_scanning() {
  const Duration before = thread_cpu_time();
  const bool done = look_on(kTurn);
  if (!done) review_young_anchors();
  scan_->cost += thread_cpu_time() - before;
  if (done) return finish_scan();
  go_on_.arm_after(kTurn);
}

void Discovery::finish_scan() {
  const Duration before = thread_cpu_time();
  go_on_.disarm();
  const Scan scan = *std::exchange(scan_, {});
  reconcile();
  if (take_more_.armed()) {
    if (!scan.orphans.empty()) on_orphans();  // one of the rest may be their next anchor
  } else if (scan.known != ProcessTable::Known::Young) {
    give_up_orphans(scan.orphans);
  }
  pace_.done(loop_.now(), scan.cost + thread_cpu_time() - before,
             scan.known == ProcessTable::Known::Anyone);
  if (const auto next = std::exchange(next_scan_, {})) (void)this->scan(*next);
  arm();
}

void Discovery::on_facts(pid_t pid) {
  told_.insert(pid);
  use_facts_.arm_now();
}

/// What was waited for has come: who belongs to which engine, a new container's name, whether an
/// anchor's exit makes way for a successor.
void Discovery::use_facts() {
  const Duration before = thread_cpu_time();
  use_facts_.disarm();
  std::set<pid_t> told = std::exchange(told_, {});
  told.merge(identifier_.take_incomplete());
  table_.look_at_unread();
  for (const auto& [key, pid] : registry_.anchors()) {
    if (told.contains(pid)) identify_again(pid, key);
  }
  reconcile();
  if (!registry_.orphans().empty()) on_orphans();
  pace_.charge_scans(thread_cpu_time() - before);
}

void Discovery::look_for_new() {
  const TimePoint now = loop_.now();
  const Duration before = thread_cpu_time();
  if (table_.refresh(now, ProcessTable::Known::Young)) {
    (void)look_on(kTurn);
    reconcile();
  }
  pace_.charge_scans(thread_cpu_time() - before);  // it lists all: a hint must not wait for that
  arm();
}

/// Next turn, when all anchors of the batch have told: one scan serves them all. Processes that
/// follow each other quickly make the pauses longer, up to what the promise of 50 ms leaves.
void Discovery::on_orphans() {
  if (recount_.armed()) return;
  const TimePoint now = loop_.now();
  const bool calm = now > last_recount_ + 1s;
  recount_gap_ = calm ? kRecountGap : std::min(recount_gap_ * 2, kLongestRecountGap);
  recount_.arm_at(std::max(now, last_recount_ + recount_gap_));
}

void Discovery::recount() {
  using Known = ProcessTable::Known;
  (void)scan(registry_.has_unseen_orphan() ? Known::Anyone : Known::Seen);
  last_recount_ = loop_.now();
}

std::vector<pid_t> Discovery::processes_in(std::uint64_t netns) const {
  std::vector<pid_t> pids;
  for (const Process& process : table_.all()) {
    if (netns != 0 && process.netns == netns) pids.push_back(process.pid);
  }
  return pids;
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
          want_exec_hints_ ? exec_hints_.state() : "no: switched off",
          foreign.size(),
          cgroups_.watches(),
          mounts_.watching()};
}

}  // namespace portfwd
