// See identity.h. The nearest keeper decides: a bubblewrap sandbox inside a podman container
// carries the container's cgroup, but is a sandbox.
#include "discover/identity.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

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

names::Guess Identifier::from_ancestors(pid_t pid) const {
  for (int i = 0; i < kAncestors && pid > 1; ++i, pid = proc_.parent(pid)) {
    if (std::ranges::find(lineage_, pid) != lineage_.end()) break;
    const std::string line = proc_.read(pid, "cmdline").value_or("");
    if (auto guess = names::from_keeper(procfs::split_strings(line))) return *guess;
  }
  return {};
}

/// What the container itself cannot have made up.
names::Guess Identifier::from_outside(pid_t pid) const {
  names::Guess guess = from_ancestors(pid);
  const auto cgroup = from_cgroup(pid);
  const bool agree = cgroup && (guess.engine.empty() || guess.engine == cgroup->engine);
  if (agree && guess.engine.empty()) guess.engine = cgroup->engine;
  if (agree && guess.id.empty()) guess.id = cgroup->id;
  if (agree && guess.name.empty()) guess.name = cgroup->name;
  return guess;
}

std::string Identifier::engine_id_of(pid_t pid) const {
  return from_outside(pid).id;
}

/// INET_DIAG_CGROUP_ID of the sockets it makes; tests/platform/cgroup_test.cc.
std::uint64_t Identifier::cgroup_id(pid_t pid) const {
  const auto path = procfs::parse_unified_cgroup(proc_.read(pid, "cgroup").value_or(""));
  if (!path || cgroup_root_.empty()) return 0;
  struct stat folder {};
  return ::stat((cgroup_root_ + *path).c_str(), &folder) == 0 ? folder.st_ino : 0;
}

Identity Identifier::identify(pid_t pid) const {
  names::Guess guess = from_outside(pid);
  const std::string environment = proc_.read(pid, "environ").value_or("");
  const auto told = names::from_environment(procfs::split_strings(environment), host_name_);
  if (guess.engine.empty()) guess.engine = told.engine;
  if (guess.name.empty() && names::is_hex_id(guess.id)) guess.name = guess.id.substr(0, 12);
  if (guess.name.empty()) guess.name = told.name;
  if (guess.name.empty()) guess.name = names::from_program(proc_.comm(pid), pid);
  return {guess.engine, guess.id, guess.name, cgroup_id(pid)};
}

}  // namespace portfwd
