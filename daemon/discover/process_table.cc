// See process_table.h.
#include "discover/process_table.h"

#include <algorithm>
#include <array>

namespace portfwd {
namespace {

using namespace std::chrono_literals;

/// Times of the repeated checks after the first one: a runtime takes about 10 ms from fork to
/// unshare and exec on an idle machine, and about 1000 ms on a busy one.
constexpr std::array<Duration, 6> kRecheckTimes{30ms, 100ms, 300ms, 700ms, 1500ms, 2500ms};

/// After this many repeated checks a process is taken to stay in its namespace: a runtime has left
/// the host's network long before.
constexpr std::uint8_t kRechecksUntilStable = 5;

TimePoint due(const ProcessTable::Process& process) {
  if (process.foreign || process.needs_check) return TimePoint::max();
  return process.rechecks < kRecheckTimes.size()
             ? process.first_seen + kRecheckTimes[process.rechecks]
             : TimePoint::max();
}

}  // namespace

Result<void> ProcessTable::refresh(TimePoint now, Known selected) {
  if (auto listed = proc_.list(listing_); !listed) return listed;
  next_.clear();
  auto known = processes_.begin();
  for (const ProcDir::Entry& entry : listing_) {
    while (known != processes_.end() && known->pid < entry.pid) ++known;
    const bool same = known != processes_.end() && known->pid == entry.pid &&
                      (known->folder == entry.inode || known->folder == 0);
    Process& process = same ? next_.emplace_back(std::move(*known)) : next_.emplace_back();
    process.folder = entry.inode;
    if (!same) {
      process.pid = entry.pid;
      process.first_seen = now;
      process.needs_check = true;
    } else if (due(process) <= now || selected == Known::All ||
               (selected == Known::Seen && !process.unseen)) {
      while (due(process) <= now) ++process.rechecks;
      process.needs_check = true;
    }
  }
  std::swap(processes_, next_);
  return {};
}

bool ProcessTable::continue_checks(const std::function<bool()>& enough) {
  checked_pids_.clear();
  recent_due_ = TimePoint::max();
  bool done = true;
  for (Process& process : processes_) {
    if (process.needs_check) {
      if (!checked_pids_.empty() && checked_pids_.size() % kChecksPerBatch == 0)
        done = done && !enough();
      if (done) read_namespace(process);
    }
    note_recent(process);
  }
  if (!done) recent_due_ = TimePoint::min();
  return done;
}

void ProcessTable::mark_due(TimePoint now) {
  for (Process& process : processes_) {
    if (due(process) > now) continue;
    while (due(process) <= now) ++process.rechecks;
    process.needs_check = true;
  }
}

void ProcessTable::recheck_incomplete() {
  checked_pids_.clear();
  for (Process& process : processes_) {
    if (process.reading) read_namespace(process);
  }
}

const ProcessTable::Process* ProcessTable::check_now(pid_t pid, TimePoint now) {
  checked_pids_.clear();
  const auto place = std::ranges::lower_bound(processes_, pid, {}, &Process::pid);
  if (place != processes_.end() && place->pid == pid) {
    place->foreign = false;  // it may have executed a program that is another user's
    read_namespace(*place);
    return &*place;
  }
  Process process{.pid = pid, .first_seen = now};  // refresh() adds the inode of its folder
  read_namespace(process);
  if (process.netns == 0) return nullptr;
  note_recent(process);
  return &*processes_.insert(place, std::move(process));
}

const ProcessTable::Process* ProcessTable::find(pid_t pid) const {
  const auto place = std::ranges::lower_bound(processes_, pid, {}, &Process::pid);
  return place != processes_.end() && place->pid == pid ? &*place : nullptr;
}

std::vector<pid_t> ProcessTable::pids_in(std::uint64_t netns) const {
  std::vector<pid_t> pids;
  for (const Process& process : processes_) {
    if (netns != 0 && process.netns == netns) pids.push_back(process.pid);
  }
  return pids;
}

bool ProcessTable::is_recent(const Process& process, TimePoint now) {
  return now <= process.first_seen + kRecheckTimes.back() + 500ms;  // its last check may be late
}

/// Read the process's namespace and what follows from it. `ours` is determined only if the
/// namespace has changed and is not the host's, since that costs as much as a check.
void ProcessTable::read_namespace(Process& process) {
  checked_pids_.push_back(process.pid);
  process.needs_check = false;
  const auto netns = proc_.netns(process.pid);
  process.unseen = !netns && netns.error().code == EACCES;
  const auto files = process.unseen ? proc_.net_files(process.pid) : fail("stat", ENOENT);
  const std::uint64_t now = netns.value_or(files.value_or(0));
  if (now != process.checked_netns) {
    process.ours = now != 0 && !boundary_.is_ours(now) && is_ours_(process.pid);
    process.engine_id.clear();
    process.reading = false;
    process.foreign = false;
  }
  process.checked_netns = now;
  process.netns = process.ours ? 0 : now;
  if (process.netns == 0 || !process.engine_id.empty()) return;
  if (!boundary_.is_ours(now)) {
    process.foreign = process.unseen && is_foreign(process);
    if (!process.foreign) find_engine_id(process);
  } else if (process.rechecks >= kRechecksUntilStable &&
             !std::exchange(process.looked_up_on_host, true)) {
    process.engine_id = identifier_.engine_id_by_cgroup(process.pid);
  }
}

/// The owner of /proc/PID changes with the process's user and costs one system call, so the verdict
/// on a foreign process is kept while it stays the same.
bool ProcessTable::is_foreign(Process& process) const {
  const uid_t owner = proc_.owner(process.pid).value_or(0);
  if (process.foreign && owner == process.owner) return true;
  process.owner = owner;
  return identifier_.is_foreign(process.pid);
}

/// A child in its parent's namespace is in its parent's container, which costs one read. While
/// facts are being read the id is unknown; recheck_incomplete() tries again.
void ProcessTable::find_engine_id(Process& process) const {
  const pid_t parent = proc_.parent(process.pid);
  const Process* place = find(parent);
  if (place != nullptr && place->netns == process.netns && !place->engine_id.empty()) {
    process.engine_id = place->engine_id;
    process.reading = false;
    return;
  }
  const auto id = identifier_.engine_id_of(process.pid);
  process.reading = !id.has_value();
  process.engine_id = id.value_or("");
}

void ProcessTable::note_recent(const Process& process) {
  recent_due_ = std::min(recent_due_, due(process));
}

}  // namespace portfwd
