// See identity.h. The nearest keeper decides: a bubblewrap sandbox inside a podman container
// carries the container's cgroup, but is a sandbox.
#include "discover/identity.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "kernel/cgroup_folder.h"
#include "kernel/procfs.h"

namespace portfwd {
namespace {

constexpr int kAncestors = 8;  // a container's shells and supervisors, then its keeper

std::string host_name() {
  std::array<char, 256> buffer{};
  return ::gethostname(buffer.data(), buffer.size() - 1) == 0 ? buffer.data() : "";
}

std::vector<pid_t> ancestors(const ProcDir& proc, pid_t pid) {
  std::vector<pid_t> line;
  for (; pid > 0 && line.size() < 64; pid = proc.parent(pid)) line.push_back(pid);
  return line;
}

/// Where the root of the unified hierarchy can be seen.
std::string cgroup_root(const ProcDir& proc) {
  const std::string file = proc.path() + "/self/mountinfo";
  const std::string text = read_text(AT_FDCWD, file.c_str(), 1 << 20).value_or("");
  for (const procfs::Mount& mount : procfs::parse_mountinfo(text)) {
    if (mount.type == "cgroup2" && mount.root == "/") return mount.point;
  }
  return {};
}

}  // namespace

Identifier::Identifier(const ProcDir& proc)
    : proc_(proc),
      lineage_(ancestors(proc, ::getpid())),
      host_name_(host_name()),
      cgroup_root_(cgroup_root(proc)) {
  if (const auto own = from_cgroup(::getpid())) own_engine_id_ = own->id;
}

std::optional<names::Guess> Identifier::from_cgroup(pid_t pid) const {
  for (const std::string& path : procfs::parse_cgroup(proc_.read(pid, "cgroup").value_or(""))) {
    if (auto guess = names::from_cgroup(path)) {
      if (!own_engine_id_.empty() && guess->id == own_engine_id_) return std::nullopt;
      return guess;
    }
  }
  return std::nullopt;
}

/// A rootless engine runs in a network namespace of its own, and so do its shims, with the programs
/// that they run before the container's.
names::Guess Identifier::from_ancestors(pid_t pid) const {
  const pid_t process = pid;
  for (int i = 0; i < kAncestors && pid > 1; ++i, pid = proc_.parent(pid)) {
    if (std::ranges::find(lineage_, pid) != lineage_.end()) break;
    const std::string line = proc_.read(pid, "cmdline").value_or("");
    const auto guess = names::from_keeper(procfs::split_strings(line));
    if (guess && !(guess->outside && share_network(process, pid))) return *guess;
  }
  return {};
}

/// @return false when it can't be seen
bool Identifier::share_network(pid_t one, pid_t other) const {
  const auto netns = proc_.netns(one);
  return netns && proc_.netns(other).value_or(0) == *netns;
}

/// What the container itself cannot have made up. Flatpak's sandboxes are kept by bubblewrap, and
/// other engines than podman use conmon, too: there the cgroup names the engine, if it names more
/// than a runtime, as it does of rootless Docker's.
names::Guess Identifier::from_outside(pid_t pid) const {
  names::Guess guess = from_ancestors(pid);
  const auto cgroup = from_cgroup(pid);
  const bool same =
      cgroup && cgroup->engine != "runc" && !guess.id.empty() && guess.id == cgroup->id;
  const bool flatpak = cgroup && guess.engine == "bubblewrap" && cgroup->engine == "flatpak";
  if (same || flatpak) guess.engine = cgroup->engine;
  const bool agree = cgroup && (guess.engine.empty() || guess.engine == cgroup->engine);
  if (agree && guess.engine.empty()) guess.engine = cgroup->engine;
  if (agree && guess.id.empty()) guess.id = cgroup->id;
  if (agree && guess.name.empty()) guess.name = cgroup->name;
  return guess;
}

std::string Identifier::engine_id_of(pid_t pid) const {
  return from_outside(pid).id;
}

std::string Identifier::engine_id_by_cgroup(pid_t pid) const {
  const auto guess = from_cgroup(pid);
  return guess && guess->certain ? guess->id : "";
}

/// A sandbox inside an engine's container carries its cgroup, but the folder is not its own.
void Identifier::add_cgroup(pid_t pid, Identity& identity) const {
  const auto path = procfs::parse_unified_cgroup(proc_.read(pid, "cgroup").value_or(""));
  if (!path || cgroup_root_.empty()) return;
  identity.cgroup_id = cgroup_id_of(cgroup_root_ + *path);
  const auto guess = names::from_cgroup(*path);
  if (guess && guess->engine == identity.engine) identity.cgroup = cgroup_root_ + guess->cgroup;
}

Identity Identifier::identify(pid_t pid) const {
  names::Guess guess = from_outside(pid);
  const std::string environment = proc_.read(pid, "environ").value_or("");
  const auto told = names::from_environment(procfs::split_strings(environment), host_name_);
  const bool flatpak = guess.engine == "bubblewrap" && told.engine == "flatpak";
  if (guess.engine.empty() || flatpak) guess.engine = told.engine;
  if (guess.name.empty() && names::is_hex_id(guess.id)) guess.name = guess.id.substr(0, 12);
  if (guess.name.empty()) guess.name = told.name;
  if (guess.name.empty()) guess.name = names::from_program(proc_.comm(pid), pid);
  Identity identity{guess.engine, guess.id, guess.name};
  add_cgroup(pid, identity);
  return identity;
}

}  // namespace portfwd
