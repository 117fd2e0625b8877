// See container_inspector.h.

#include "discover/container_inspector.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "kernel/procfs.h"

namespace portfwd {

namespace {

using namespace std::chrono_literals;
using Kind = Refusal::Kind;

constexpr Duration kSecondCheckDelay = 250ms;
constexpr std::size_t kMountinfoLimit = 1 << 20;

}  // namespace

Result<PinnedProcess> pin_process(const ProcDir& proc, pid_t pid) {
  auto pidfd = open_pidfd(pid);
  if (!pidfd) return std::unexpected(pidfd.error());
  auto netns = proc.open_netns(pid);
  if (has_exited(pidfd->get())) return fail("pidfd_open", ESRCH);
  if (!netns) return std::unexpected(netns.error());
  return PinnedProcess{std::move(*pidfd), std::move(*netns)};
}

// --- namespaces that are not visible or not accessible -------------------------------------------

UnseenNamespaces::UnseenNamespaces(EventLoop& loop, ProcessTable& table,
                                   std::move_only_function<void()> on_second_check)
    : loop_(loop),
      table_(table),
      on_second_check_(std::move(on_second_check)),
      second_check_(loop, [this] { recheck(); }) {}

bool UnseenNamespaces::confirm(std::uint64_t netns) {
  assert(netns != 0);
  const TimePoint now = loop_.now();
  const TimePoint second = first_check_.try_emplace(netns, now).first->second + kSecondCheckDelay;
  if (now >= second) return true;
  if (!second_check_.armed()) second_check_.arm_at(second);
  return false;
}

/// Namespaces without processes are forgotten, because a new one may get the same inode.
void UnseenNamespaces::recheck() {
  std::vector<pid_t> pids;
  for (const ProcessTable::Process& process : table_.all()) {
    if (first_check_.contains(process.netns)) pids.push_back(process.pid);
  }
  for (const pid_t pid : pids) (void)table_.check_now(pid, loop_.now());
  std::set<std::uint64_t> in_use;
  for (const ProcessTable::Process& process : table_.all()) in_use.insert(process.netns);
  std::erase_if(first_check_, [&](const auto& one) { return !in_use.contains(one.first); });
  on_second_check_();
}

// --- containers of processes ---------------------------------------------------------------------

ContainerInspector::ContainerInspector(const Parts& parts, std::string netns_folder,
                                       std::move_only_function<void()> on_second_check)
    : proc_(parts.proc),
      facts_(parts.facts),
      identifier_(parts.identifier),
      boundary_(parts.boundary),
      table_(parts.table),
      mounts_(parts.mounts),
      netns_folder_(std::move(netns_folder)),
      unseen_(parts.loop, parts.table, std::move(on_second_check)) {}

/// The network namespace of another user's process cannot be opened; the inode of its /proc/PID/net
/// files identifies it instead. A process on the host's network may be of either kind.
std::optional<DiscoveredContainer> ContainerInspector::pin(const Process& process,
                                                           std::uint64_t netns) {
  assert(netns != 0);
  const bool on_host = boundary_.is_ours(netns);
  DiscoveredContainer found;
  found.pid = process.pid;
  if (!on_host && !process.unseen) {
    auto pinned = pin_process(proc_, process.pid);
    short_of_descriptors_ |= !pinned && is_descriptor_shortage(pinned.error());
    if (!pinned || pinned->netns.inode() != netns) return std::nullopt;
    found.pidfd = std::move(pinned->pidfd);
    found.netns = std::move(pinned->netns);
    return found;
  }
  auto pidfd = open_pidfd(process.pid);
  short_of_descriptors_ |= !pidfd && is_descriptor_shortage(pidfd.error());
  const auto uid = procfs::parse_status_uid(proc_.read(process.pid, "status").value_or(""));
  bool in_it = false;
  if (on_host) {
    auto opened = proc_.open_netns(process.pid);
    in_it = !opened || opened->inode() == netns;
    if (opened) found.netns = std::move(*opened);
  } else {
    in_it = proc_.net_files(process.pid).value_or(0) == netns;
  }
  if (!pidfd || !uid || !in_it || has_exited(pidfd->get())) return std::nullopt;
  found.pidfd = std::move(*pidfd);
  found.net_files = netns;
  found.uid = *uid;
  return found;
}

bool ContainerInspector::describe(DiscoveredContainer& found, const Process& process,
                                  const ContainerKey& key) {
  assert(found.pid == process.pid && found.pidfd.valid());
  const bool ours = boundary_.is_ours(key.netns);
  const bool described = ours             ? describe_on_host(found)
                         : process.unseen ? describe_unseen(found, key)
                                          : describe_seen(found, key);
  if (!described) return false;
  if (ours || process.unseen || !key.engine_id.empty()) found.identity.engine_id = key.engine_id;
  return true;
}

/// A container on the host's network is only listed: there is nothing to watch or to forward.
bool ContainerInspector::describe_on_host(DiscoveredContainer& found) const {
  found.identity = identifier_.identify(found.pid);
  found.on_host = true;
  found.inaccessible = "it shares the host's network, so its ports are on the host already";
  return true;
}

bool ContainerInspector::describe_unseen(DiscoveredContainer& found, const ContainerKey& key) {
  if (!stays_inaccessible(found.pid, key.netns)) return false;
  unseen_.forget(key.netns);
  found.identity = identity_of(found.pid, key.netns);
  found.inaccessible =
      "cannot open its namespaces: they belong to another user, probably root; run portfwd as that "
      "user, or run the container rootless";
  return true;
}

bool ContainerInspector::describe_seen(DiscoveredContainer& found, const ContainerKey& key) {
  assert(found.netns);
  const Boundary::Verdict verdict = boundary_.judge(*found.netns);
  const bool closed = !verdict.inaccessible.empty();
  if (verdict.outside || (closed && identifier_.is_foreign(found.pid, verdict.owner))) {
    outside_.insert(key.netns);
    return false;
  }
  if (closed && !stays_inaccessible(found.pid, key.netns)) return false;
  unseen_.forget(key.netns);
  found.uid = verdict.owner;
  found.inaccessible = verdict.inaccessible;
  facts_.renew(found.pid);  // they may have been read before the runtime executed the program
  found.identity = identity_of(found.pid, key.netns);
  // rootlessport is podman's only port forwarder in a container's namespace. Its child is there
  // before any program of the container runs.
  found.publishes = std::ranges::any_of(table_.pids_in(key.netns),
                                        [this](pid_t pid) { return is_rootlessport(pid); });
  const auto named = mounts_.paths().find(key.netns);
  const bool has_engine = !key.engine_id.empty() || !found.identity.engine_id.empty();
  if (named != mounts_.paths().end() && !has_engine) found.path = named->second;
  return true;
}

/// If root's engine made the cgroup, no second check is needed.
bool ContainerInspector::stays_inaccessible(pid_t pid, std::uint64_t netns) {
  return identifier_.is_roots_by_cgroup(pid) || unseen_.confirm(netns);
}

/// The open descriptor keeps the mount busy. `ip netns delete` and the engines unmount with
/// MNT_DETACH, which still works; a plain umount(8) fails.
std::optional<DiscoveredContainer> ContainerInspector::describe_named(std::uint64_t netns,
                                                                      const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  if (path != netns_folder_ + "/" + name) return std::nullopt;
  if (name.starts_with("netns-") || name.starts_with("cni-")) return std::nullopt;  // of engines
  if (boundary_.is_ours(netns) || is_outside(netns)) return std::nullopt;
  auto opened = Netns::open(path);
  if (!opened || opened->inode() != netns) return std::nullopt;
  const Boundary::Verdict verdict = boundary_.judge(*opened);
  const bool foreign =
      !verdict.inaccessible.empty() && verdict.owner != 0 && verdict.owner != ::geteuid();
  if (verdict.outside || foreign) {
    outside_.insert(netns);
    return std::nullopt;
  }
  DiscoveredContainer found;
  found.netns = std::move(*opened);
  found.uid = verdict.owner;
  found.inaccessible = verdict.inaccessible;
  found.identity = {"netns", "", names::printable(name)};
  found.path = path;
  return found;
}

Identity ContainerInspector::identity_of(pid_t pid, std::uint64_t netns) const {
  Identity identity = identifier_.identify(pid);
  const auto named = mounts_.paths().find(netns);
  if (identity.engine.empty() && named != mounts_.paths().end()) {
    identity.engine = "netns";
    identity.name = names::printable(named->second.substr(named->second.rfind('/') + 1));
  }
  return identity;
}

bool ContainerInspector::is_engine_process(pid_t pid) const {
  return names::is_engine_process(proc_.comm(pid)) || is_rootlessport(pid);
}

/// The child of rootlessport executes /proc/self/exe, so its comm is "exe".
bool ContainerInspector::is_rootlessport(pid_t pid) const {
  constexpr std::string_view kName = "rootlessport";
  const std::string comm = proc_.comm(pid);
  return comm.starts_with(kName) ||
         (comm == "exe" && proc_.comm(proc_.parent(pid)).starts_with(kName));
}

// --- requests to attach --------------------------------------------------------------------------

namespace {

Refusal pin_refusal(pid_t pid, const Error& error) {
  if (error.code == EACCES || error.code == EPERM) {
    return {Kind::Inaccessible,
            fmt::format("cannot attach process {}: it belongs to another user; run portfwd as that "
                        "user or as root",
                        pid)};
  }
  if (error.code == ESRCH || error.code == ENOENT || error.code == EINVAL) {
    return {
        Kind::InvalidArgument,
        fmt::format("cannot attach process {}: no such process; give the pid, on the host, of a "
                    "process in the container",
                    pid)};
  }
  return {Kind::Failed, fmt::format("cannot attach process {}: {}", pid, error.text())};
}

Answer<void> check_allowed(const Boundary& boundary, const Netns& netns,
                           const Boundary::Verdict& verdict) {
  if (boundary.is_ours(netns.inode())) {
    return refuse(Kind::InvalidArgument,
                  "cannot attach the network namespace: portfwd itself runs in it or was started "
                  "from it; its ports need no forwarding");
  }
  if (verdict.outside) {
    return refuse(Kind::Inaccessible,
                  "cannot attach the network namespace: it belongs to a user namespace outside "
                  "portfwd's own; run portfwd outside of this container");
  }
  if (!verdict.inaccessible.empty()) return refuse(Kind::Inaccessible, verdict.inaccessible);
  return {};
}

}  // namespace

Answer<const Container*> AttachRequests::attach_pid(pid_t pid, std::string_view name) {
  if (pid <= 0) return refuse(Kind::InvalidArgument, "cannot attach the process: pid below 1");
  auto pinned = pin_process(proc_, pid);
  if (!pinned) return std::unexpected(pin_refusal(pid, pinned.error()));
  const Boundary::Verdict verdict = boundary_.judge(pinned->netns);
  if (auto allowed = check_allowed(boundary_, pinned->netns, verdict); !allowed) {
    return std::unexpected(allowed.error());
  }
  DiscoveredContainer found;
  found.pid = pid;
  found.pidfd = std::move(pinned->pidfd);
  found.uid = verdict.owner;
  found.netns = std::move(pinned->netns);
  found.identity = identifier_.identify(pid);
  return registry_.attach(std::move(found), name);
}

Answer<const Container*> AttachRequests::attach_netns(UniqueFd fd, std::string_view name) {
  auto netns = Netns::adopt(std::move(fd));
  if (!netns) {
    return refuse(Kind::InvalidArgument,
                  "cannot attach the file: it is not a network namespace; give one such as "
                  "/run/netns/NAME or /proc/PID/ns/net");
  }
  const Boundary::Verdict verdict = boundary_.judge(*netns);
  if (auto allowed = check_allowed(boundary_, *netns, verdict); !allowed) {
    return std::unexpected(allowed.error());
  }
  DiscoveredContainer found;
  found.uid = verdict.owner;
  found.path = path_of(*netns);
  found.held_by_request = found.path.empty();
  const std::string base = found.path.substr(found.path.rfind('/') + 1);
  found.identity = {"netns", "", base.empty() ? fmt::format("netns-{}", netns->inode()) : base};
  found.netns = std::move(*netns);
  return registry_.attach(std::move(found), name);
}

std::string AttachRequests::path_of(const Netns& netns) const {
  const std::string file = proc_.path() + "/self/mountinfo";
  const std::string text = read_text(AT_FDCWD, file.c_str(), kMountinfoLimit).value_or("");
  for (const procfs::Mount& mount : procfs::parse_mountinfo(text)) {
    if (mount.type == "nsfs" && procfs::parse_netns_link(mount.root) == netns.inode()) {
      return mount.point;
    }
  }
  return {};
}

}  // namespace portfwd
