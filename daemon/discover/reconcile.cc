// What a look at the processes means for the Registry: which namespaces are new, which anchors need
// a successor, which names were not yet right. See discovery.h.
#include <unistd.h>

#include <algorithm>
#include <ranges>

#include "base/process_usage.h"
#include "base/unique_fd.h"
#include "discover/discovery.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostOwed = 64;
constexpr Duration kTurn = 2ms;  // of beginnings or ends of containers in a turn of the loop
constexpr Duration kSecondLook = 250ms;
constexpr Duration kLongestReplacement = 2min;  // an engine waits 10 s, unless told otherwise

}  // namespace

/// Engines' containers first, which are last in the map: processes of no engine may be theirs. Many
/// may begin at once: the rest has the next turn, but at the start, when nobody is served yet.
void Discovery::reconcile() {
  take_more_.disarm();
  review_young_anchors();
  const TimePoint end = started_ ? loop_.now() + kTurn : TimePoint::max();
  for (const auto& [key, pids] : std::views::reverse(unanchored())) {
    if (loop_.now() >= end) {
      take_more_.arm_after(kTurn);
      break;
    }
    take(key, pids);
  }
  for (const auto& [netns, path] : mounts_.paths()) adopt_named(netns, path);
}

/// Only when everybody was looked at since the anchor's exit is it known that nobody is left.
/// A container is not given up for want of descriptors: a later scan has some to hold a successor.
void Discovery::give_up_orphans(std::vector<ContainerKey> orphans) {
  if (std::exchange(short_, false)) return;
  std::erase_if(orphans, [left = registry_.orphans()](const ContainerKey& key) {
    return std::ranges::find(left, key) == left.end();
  });
  const bool engines =
      std::ranges::any_of(orphans, [](const ContainerKey& key) { return !key.engine_id.empty(); });
  if (engines && !note_replacements()) return;              // use_facts() comes back
  std::erase_if(orphans, [this](const ContainerKey& key) {  // use_facts() comes back
    return std::ranges::any_of(table_.all(), [&key](const Process& process) {
      return process.reading && process.netns == key.netns;
    });
  });
  leaving_.insert(leaving_.end(), orphans.begin(), orphans.end());
  give_up_more();
}

/// Many may end at once, with many forwards each: the rest has the next turn.
void Discovery::give_up_more() {
  const TimePoint end = loop_.now() + kTurn;
  while (!leaving_.empty() && loop_.now() < end) {
    const ContainerKey key = std::move(leaving_.back());
    leaving_.pop_back();
    const std::vector<ContainerKey> orphans = registry_.orphans();
    if (std::ranges::find(orphans, key) != orphans.end()) registry_.settle(key, 0, UniqueFd());
  }
  if (!leaving_.empty()) give_up_.arm_after(kTurn);
}

/// A container that is to be replaced has to end before its successor can be made, and its forwards
/// go with it: what will be told of them has to be known by then. `podman run --replace` waits for
/// that end, so it is there to be seen; compose has its engine say so (ContainerEvent::replaces).
/// `podman rm` and then `podman run` can't be told from the first alone. Rejected: to hold back
/// what is told until a successor may have come, which takes 200 ms and more: the word that a
/// forward is gone would always be late.
/// Only of programs of podman's name the command line is read, which "exe" may be, too, since it
/// executes itself anew. @return false while one is being read
bool Discovery::note_replacements() {
  const TimePoint recently = loop_.now() - kLongestReplacement;
  bool all_read = true;
  for (const Process& process : table_.all()) {
    if (process.first_seen < recently || !boundary_.is_ours(process.netns)) continue;
    const std::string program = proc_.comm(process.pid);
    if (program != "podman" && program != "podman-remote" && program != "exe") continue;
    const ProcessFacts* facts = facts_.of(process.pid);
    all_read = all_read && facts != nullptr;
    if (facts != nullptr) registry_.expect_successor("podman", facts->replaces);
  }
  return all_read;
}

/// Whether it belongs to an engine's container that shares the host's network.
bool Discovery::runs_on_host(const Process& process) const {
  if (process.engine_id.empty()) return false;
  return registry_.knows({process.netns, process.engine_id}) ||
         !registry_.knows_engine_id(process.engine_id);
}

/// A process of no engine belongs to its namespace's first container, and so does one in a sandbox
/// with a namespace of its own inside an engine's container.
ContainerKey Discovery::key_of(const Process& process) const {
  ContainerKey own{process.netns, process.engine_id};
  if (own.netns == 0 || registry_.knows(own)) return own;
  if (!own.engine_id.empty() && !registry_.knows_engine_id(own.engine_id)) return own;
  return registry_.first_in(own.netns).value_or(ContainerKey{own.netns, ""});
}

/// Every container that has processes but no anchor. A namespace of no engine waits for what is
/// being read of the others in it: one of these may be an engine's container, whose namespace it is
/// then.
Discovery::Candidates Discovery::unanchored() const {
  Candidates candidates;
  std::set<std::uint64_t> being_read;
  std::map<std::uint64_t, bool> foreign;  // as its first process is
  for (const Process& process : table_.all()) {
    if (process.reading) being_read.insert(process.netns);
    if (process.netns == 0 || process.reading) continue;
    if (outside_.contains(process.netns)) continue;
    if (boundary_.is_ours(process.netns) && !runs_on_host(process)) continue;
    ContainerKey key = key_of(process);
    const bool foreigners = foreign.try_emplace(process.netns, process.foreign).first->second;
    if ((foreigners || process.foreign) && !registry_.knows(key)) continue;
    if (registry_.anchor_of(key) == 0) candidates[std::move(key)].push_back(process.pid);
  }
  std::erase_if(candidates, [&](const auto& one) {
    return one.first.engine_id.empty() && being_read.contains(one.first.netns);
  });
  return candidates;
}

/// The first process that serves the container itself becomes its anchor.
void Discovery::take(const ContainerKey& key, std::span<const pid_t> pids) {
  const bool others = key.engine_id.empty() && registry_.first_in(key.netns).value_or(key) != key;
  if (others && !registry_.knows(key)) return;
  for (const pid_t pid : pids) {
    if (names::is_plumbing(proc_.comm(pid)) || is_rootlessport(pid)) continue;
    const Process* process = table_.find(pid);
    if (process == nullptr) continue;
    if (!registry_.knows(key) && !identifier_.identify(pid).complete) return;  // use_facts() comes
    if (boundary_.is_ours(key.netns)) {
      adopt_on_host(*process, key);
    } else if (process->unseen) {
      adopt_unseen(pid, key);
    } else {
      adopt(pid, key);
    }
    if (registry_.anchor_of(key) != 0 || outside_.contains(key.netns)) return;
  }
}

void Discovery::adopt(pid_t pid, const ContainerKey& key) {
  auto held = hold(proc_, pid);
  short_ = short_ || (!held && is_descriptor_shortage(held.error()));
  if (!held || held->netns.inode() != key.netns) return;  // gone, or moved on meanwhile
  if (registry_.knows(key)) return registry_.settle(key, pid, std::move(held->pidfd));
  const Boundary::Verdict verdict = boundary_.judge(held->netns);
  if (verdict.outside) {
    outside_.insert(key.netns);
    return;
  }
  if (!verdict.inaccessible.empty()) {
    if (identifier_.is_foreign(pid, verdict.owner)) {
      outside_.insert(key.netns);
      return;
    }
    if (!stays_so(pid, key.netns)) return;
  }
  unseen_since_.erase(key.netns);
  Sighting sighting;
  sighting.pid = pid;
  sighting.pidfd = std::move(held->pidfd);
  sighting.netns = std::move(held->netns);
  sighting.uid = verdict.owner;
  sighting.inaccessible = verdict.inaccessible;
  facts_.renew(pid);  // it may have been read as the runtime that has executed the program since
  sighting.identity = identity_of(pid, key.netns);
  sighting.publishes = engine_publishes(key.netns);
  if (!key.engine_id.empty()) sighting.identity.engine_id = key.engine_id;
  if (const auto named = mounts_.paths().find(key.netns);
      named != mounts_.paths().end() && sighting.identity.engine_id.empty()) {
    sighting.path = named->second;
  }
  registry_.add(std::move(sighting));
}

/// rootlessport, podman's, has a child in the namespace that it leads to, before any program of the
/// container runs. It is the only forwarder to be found there.
bool Discovery::engine_publishes(std::uint64_t netns) const {
  return std::ranges::any_of(processes_in(netns),
                             [this](pid_t pid) { return is_rootlessport(pid); });
}

/// The child executes /proc/self/exe, so the kernel calls it "exe".
bool Discovery::is_rootlessport(pid_t pid) const {
  constexpr std::string_view kName = "rootlessport";
  const std::string comm = proc_.comm(pid);
  return comm.starts_with(kName) ||
         (comm == "exe" && proc_.comm(proc_.parent(pid)).starts_with(kName));
}

/// `ip netns add NAME` alone makes a container; an engine's own mounts wait for their processes.
/// The descriptor keeps the mount busy: `ip netns delete` and the engines detach (MNT_DETACH),
/// which works, a plain umount(8) would not.
void Discovery::adopt_named(std::uint64_t netns, const std::string& path) {
  const ContainerKey key{netns, ""};
  const std::string name = path.substr(path.rfind('/') + 1);
  if (path != netns_folder_ + "/" + name || registry_.knows(key)) return;
  if (name.starts_with("netns-") || name.starts_with("cni-")) return;  // netavark's, CNI's
  if (boundary_.is_ours(netns) || outside_.contains(netns)) return;
  auto opened = Netns::open(path);
  if (!opened || opened->inode() != netns) return;
  const Boundary::Verdict verdict = boundary_.judge(*opened);
  if (verdict.outside) {
    outside_.insert(netns);
    return;
  }
  if (!verdict.inaccessible.empty() && verdict.owner != 0 && verdict.owner != ::geteuid()) {
    outside_.insert(netns);
    return;
  }
  Sighting sighting;
  sighting.netns = std::move(*opened);
  sighting.uid = verdict.owner;
  sighting.inaccessible = verdict.inaccessible;
  sighting.identity = {"netns", "", names::printable(name)};
  sighting.path = path;
  registry_.add(std::move(sighting));
}

/// A named namespace bears its name, unless an engine made it.
Identity Discovery::identity_of(pid_t pid, std::uint64_t netns) const {
  Identity identity = identifier_.identify(pid);
  const auto named = mounts_.paths().find(netns);
  if (identity.engine.empty() && named != mounts_.paths().end()) {
    identity.engine = "netns";
    identity.name = names::printable(named->second.substr(named->second.rfind('/') + 1));
  }
  return identity;
}

void Discovery::on_mounts() {
  registry_.set_paths(mounts_.paths());
  reconcile();
}

/// Beyond the budget they wait for it; if they are many, a scan serves them all.
void Discovery::on_execs(std::span<const pid_t> pids, bool lost) {
  if (owed_.size() + pids.size() > kMostOwed) {
    owed_.clear();
    pace_.want();
  } else {
    owed_.insert(owed_.end(), pids.begin(), pids.end());
  }
  if (!owed_.empty() && pace_.affordable_at() <= loop_.now()) {
    look_at(std::exchange(owed_, {}), true);
  }
  if (lost) return hint();
  arm();
}

/// A program begins: in a container that is known its listener may follow, else it may begin one.
/// @param executed whether that is certain of each of them
void Discovery::look_at(std::span<const pid_t> pids, bool executed) {
  const TimePoint now = loop_.now();
  const Duration before = thread_cpu_time();
  bool unknown = false;
  for (const pid_t pid : pids) {
    const Process* process = table_.look_at(pid, now);
    if (process == nullptr || boundary_.is_ours(process->netns)) continue;
    if (process->netns == 0) continue;
    const ContainerKey key = key_of(*process);
    facts_.renew(pid);
    if (registry_.anchor_of(key) == pid) {
      identify_again(pid, key);
    } else {
      (void)facts_.of(pid);  // what it says at exec, before its title is written over it
    }
    if (executed) registry_.sign_of_life(key);
    unknown = unknown || registry_.anchor_of(key) == 0;
  }
  const Duration looked = thread_cpu_time();
  pace_.charge(now, looked - before);
  if (!unknown) return;
  reconcile();
  pace_.charge_scans(thread_cpu_time() - looked);
}

Identity Discovery::identify(pid_t pid, const ContainerKey& key) const {
  return identity_of(pid, key.netns);
}

/// A runtime that prepares a container cannot be seen or entered for a moment, though the container
/// will be ours: what cannot is believed after a second look, unless root's engine has made its
/// cgroup.
bool Discovery::stays_so(pid_t pid, std::uint64_t netns) {
  if (identifier_.is_roots_by_cgroup(pid)) return true;
  const TimePoint now = loop_.now();
  const auto [since, fresh] = unseen_since_.try_emplace(netns, now);
  if (now >= since->second + kSecondLook) return true;
  if (!second_look_.armed()) second_look_.arm_at(since->second + kSecondLook);
  return false;
}

/// One that nobody is in any more is forgotten: the next namespace is likely to have its number.
void Discovery::look_again() {
  std::vector<pid_t> pids;
  for (const Process& process : table_.all()) {
    if (unseen_since_.contains(process.netns)) pids.push_back(process.pid);
  }
  for (const pid_t pid : pids) (void)table_.look_at(pid, loop_.now());
  std::set<std::uint64_t> held;
  for (const Process& process : table_.all()) held.insert(process.netns);
  std::erase_if(unseen_since_, [&](const auto& one) { return !held.contains(one.first); });
  reconcile();
}

/// A container whose namespaces are another user's: its files under /proc tell that it is there.
void Discovery::adopt_unseen(pid_t pid, const ContainerKey& key) {
  auto pidfd = open_pidfd(pid);
  short_ = short_ || (!pidfd && is_descriptor_shortage(pidfd.error()));
  const auto uid = procfs::parse_status_uid(proc_.read(pid, "status").value_or(""));
  const bool there = proc_.net_files(pid).value_or(0) == key.netns;
  if (!pidfd || !uid || !there || has_exited(pidfd->get())) return;
  if (registry_.knows(key)) return registry_.settle(key, pid, std::move(*pidfd));
  if (!stays_so(pid, key.netns)) return;
  unseen_since_.erase(key.netns);
  Sighting sighting;
  sighting.pid = pid;
  sighting.pidfd = std::move(*pidfd);
  sighting.net_files = key.netns;
  sighting.uid = *uid;
  sighting.identity = identity_of(pid, key.netns);
  sighting.identity.engine_id = key.engine_id;
  sighting.inaccessible =
      "its namespaces belong to another user, most likely root: run portfwd as that user, or run "
      "the container rootless";
  registry_.add(std::move(sighting));
}

/// It is only to be known of: there is nothing to watch and nothing to forward.
void Discovery::adopt_on_host(const Process& process, const ContainerKey& key) {
  auto pidfd = open_pidfd(process.pid);
  short_ = short_ || (!pidfd && is_descriptor_shortage(pidfd.error()));
  auto netns = proc_.open_netns(process.pid);  // of another user's it can't be seen
  const auto uid = procfs::parse_status_uid(proc_.read(process.pid, "status").value_or(""));
  if (!pidfd || !uid || has_exited(pidfd->get())) return;
  if (netns && netns->inode() != key.netns) return;
  if (registry_.knows(key)) return registry_.settle(key, process.pid, std::move(*pidfd));
  Sighting sighting;
  sighting.pid = process.pid;
  sighting.pidfd = std::move(*pidfd);
  if (netns) sighting.netns = std::move(*netns);
  sighting.net_files = key.netns;
  sighting.uid = *uid;
  sighting.identity = identifier_.identify(process.pid);
  sighting.identity.engine_id = key.engine_id;
  sighting.on_host = true;
  sighting.inaccessible = "its network is the host's, so its ports are on the host already";
  registry_.add(std::move(sighting));
}

/// A container is often found while its runtime still prepares it: the program, and with it the
/// name, comes with exec. And a process may leave its namespace.
void Discovery::review_young_anchors() {
  if (table_.looked_at().empty()) return;
  for (const auto& [key, pid] : registry_.anchors()) {
    if (!std::ranges::binary_search(table_.looked_at(), pid)) continue;
    const Process* process = table_.find(pid);
    if (process == nullptr) continue;  // its pidfd will tell
    const ContainerKey own{process->netns, process->engine_id};
    if (own.netns != key.netns || (own != key && registry_.knows(own))) {
      registry_.drop_anchor(key);
      on_orphans();
    } else if (own.netns != 0 && table_.is_young(*process, loop_.now())) {
      facts_.renew(pid);
      identify_again(pid, key);
    }
  }
}

/// What is being read comes to use_facts().
void Discovery::identify_again(pid_t pid, const ContainerKey& key) {
  const Identity identity = identity_of(pid, key.netns);
  if (identity.complete) registry_.identify(key, identity);
}

}  // namespace portfwd
