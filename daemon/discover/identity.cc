// See identity.h.

#include "discover/identity.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>

#include "kernel/procfs.h"

namespace portfwd {

namespace {

constexpr int kAncestors = 8;     // shells and supervisors of a container, then its keeper
constexpr int kGenerations = 32;  // ancestors within a container

std::vector<pid_t> ancestors(const ProcDir& proc, pid_t pid) {
  std::vector<pid_t> line;
  for (; pid > 0 && line.size() < 64; pid = proc.parent(pid)) line.push_back(pid);
  return line;
}

/// Mount point of the root of the unified hierarchy; "" if it is not mounted.
std::string cgroup_root(const ProcDir& proc) {
  const std::string file = proc.path() + "/self/mountinfo";
  const std::string text = read_text(AT_FDCWD, file.c_str(), 1 << 20).value_or("");
  for (const procfs::Mount& mount : procfs::parse_mountinfo(text)) {
    if (mount.type == "cgroup2" && mount.root == "/") return mount.point;
  }
  return {};
}

}  // namespace

Identifier::Identifier(const ProcDir& proc, ProcessFactsCache& facts)
    : proc_(proc),
      facts_(facts),
      lineage_(ancestors(proc, ::getpid())),
      own_id_map_(proc.read(::getpid(), "uid_map").value_or("")),
      own_userns_(proc.userns(::getpid()).value_or(0)),
      own_network_(network_of(::getpid())),
      cgroup_root_(cgroup_root(proc)) {
  if (const auto own = from_cgroup(::getpid()); own && !own->id.empty()) own_folder_ = own->cgroup;
}

/// If the daemon itself runs in a container, the folder of that container is removed from the path
/// before it is parsed.
std::optional<names::Guess> Identifier::from_path(std::string_view path) const {
  const bool shared = !own_folder_.empty() && path.starts_with(own_folder_) &&
                      (path.size() == own_folder_.size() || path[own_folder_.size()] == '/');
  if (shared) path.remove_prefix(own_folder_.size());
  auto guess = names::from_cgroup(path);
  if (guess && shared) guess->cgroup.insert(0, own_folder_);
  return guess;
}

std::optional<names::Guess> Identifier::from_cgroup(pid_t pid) const {
  for (const std::string& path : procfs::parse_cgroup(proc_.read(pid, "cgroup").value_or(""))) {
    if (auto guess = from_path(path)) return guess;
  }
  return std::nullopt;
}

std::uint64_t Identifier::network_of(pid_t pid) const {
  const auto netns = proc_.netns(pid);
  return netns ? *netns : proc_.net_files(pid).value_or(0);
}

/// Whether the process is in another network namespace than the container's first process, the
/// ancestor whose parent is outside of the container. False if that is more than kGenerations away
/// or its namespace is unknown.
bool Identifier::is_nested(pid_t pid, const std::string& engine_id) const {
  const std::uint64_t network = network_of(pid);
  pid_t first = pid;
  for (int i = 0; i < kGenerations; ++i) {
    const pid_t parent = proc_.parent(first);
    const auto guess = parent > 1 ? from_cgroup(parent) : std::nullopt;
    const bool inside = guess && guess->id == engine_id && network_of(parent) != own_network_;
    if (!inside) return network != network_of(first) && network_of(first) != 0;
    first = parent;
  }
  return false;
}

/// Fact: ProcFacts.TheIdMapDiffersBetweenUserNamespaces
bool Identifier::can_keep(pid_t keeper) const {
  const auto userns = proc_.userns(keeper);
  if (userns && *userns == own_userns_) return true;
  const std::string map = proc_.read(keeper, "uid_map").value_or("");
  return (!userns && map == own_id_map_) || procfs::mapped_ids(map) > 1;
}

bool Identifier::is_of_another_user(pid_t pid) const {
  const auto uid = procfs::parse_status_uid(proc_.read(pid, "status").value_or(""));
  return uid && *uid != 0 && *uid != ::geteuid();
}

names::Guess Identifier::from_keeper(pid_t pid) const {
  const std::uint64_t network = network_of(pid);
  pid_t keeper = proc_.parent(pid);
  for (int i = 1; i < kAncestors && keeper > 1; ++i, keeper = proc_.parent(keeper)) {
    if (std::ranges::find(lineage_, keeper) != lineage_.end()) break;
    if (network_of(keeper) == network || !can_keep(keeper)) continue;
    auto guess = facts_of(keeper).keeper;
    if (!guess) continue;
    if (is_of_another_user(keeper)) guess->id.clear();
    return *guess;
  }
  return {};
}

/// The engine of a sandbox in an engine's container. It is the only fact that is taken from the
/// sandbox's keeper.
std::string Identifier::engine_of_sandbox(pid_t pid) const {
  const std::uint64_t network = network_of(pid);
  pid_t keeper = proc_.parent(pid);
  for (int i = 1; i < kAncestors && keeper > 1; ++i, keeper = proc_.parent(keeper)) {
    if (network_of(keeper) == network) continue;
    const auto& guess = facts_of(keeper).keeper;
    return guess ? guess->engine : "";
  }
  return {};
}

/// Combine cgroup and keeper. An engine's id in the cgroup overrides a keeper with another id. A
/// keeper with the same id does not always determine the engine: conmon also keeps containers of
/// other engines than podman. Then the cgroup does, unless it only names the runtime (runc), as for
/// rootless Docker. Likewise bubblewrap keeps Flatpak's sandboxes.
Identifier::Evidence Identifier::evidence_of(pid_t pid) const {
  const auto cgroup = from_cgroup(pid);
  const bool decides = cgroup && cgroup->certain && !cgroup->id.empty();
  if (decides && is_nested(pid, cgroup->id)) return {{.engine = engine_of_sandbox(pid)}, true};
  names::Guess guess = from_keeper(pid);
  const bool same = cgroup && !guess.id.empty() && guess.id == cgroup->id;
  if (decides && !same) {
    const bool unnamed = cgroup->name.empty() && guess.id.empty() && guess.engine == cgroup->engine;
    return {{cgroup->engine, cgroup->id, unnamed ? guess.name : cgroup->name}};
  }
  const bool flatpak = cgroup && guess.engine == "bubblewrap" && cgroup->engine == "flatpak";
  if ((same && cgroup->engine != "runc") || flatpak) guess.engine = cgroup->engine;
  const bool agree = cgroup && (guess.engine.empty() || guess.engine == cgroup->engine);
  if (agree && guess.engine.empty()) guess.engine = cgroup->engine;
  if (agree && guess.id.empty()) guess.id = cgroup->id;
  if (agree && guess.name.empty()) guess.name = cgroup->name;
  return {guess};
}

std::optional<std::string> Identifier::engine_id_of(pid_t pid) const {
  reading_ = false;
  std::string id = evidence_of(pid).guess.id;
  return reading_ ? std::nullopt : std::optional(std::move(id));
}

const ProcessFacts& Identifier::facts_of(pid_t pid) const {
  static const ProcessFacts none;
  const ProcessFacts* facts = facts_.of(pid);
  reading_ = reading_ || facts == nullptr;
  return facts == nullptr ? none : *facts;
}

/// What the environment shows. If the program's title has overwritten it, that of the parent in the
/// same network namespace is used: a server inherits its environment from the shell or supervisor
/// that started it.
names::Guess Identifier::guess_by_environment(pid_t pid) const {
  const std::uint64_t network = network_of(pid);
  for (int i = 0; i < kAncestors && pid > 1 && network_of(pid) == network; ++i) {
    const ProcessFacts& facts = facts_of(pid);
    if (!facts.environment_lost) return facts.by_environment;
    pid = proc_.parent(pid);
  }
  return {};
}

std::string Identifier::engine_id_by_cgroup(pid_t pid) const {
  const auto guess = from_cgroup(pid);
  return guess && guess->certain ? guess->id : "";
}

bool Identifier::is_roots_by_cgroup(pid_t pid) const {
  const auto guess = from_cgroup(pid);
  return guess && guess->certain && !guess->id.empty() &&
         !guess->cgroup.starts_with("/user.slice/");
}

bool Identifier::is_foreign(pid_t pid, uid_t owner) const {
  if (owner == 0 || owner == ::geteuid()) return false;
  if (procfs::maps_id(proc_.read(pid, "uid_map").value_or(""), ::geteuid())) return false;
  return !is_roots_by_cgroup(pid);
}

bool Identifier::is_foreign(pid_t pid) const {
  const auto uid = procfs::parse_status_uid(proc_.read(pid, "status").value_or(""));
  return uid && is_foreign(pid, *uid);
}

/// Set the cgroup's id and folder. A sandbox inside an engine's container is in the cgroup of that
/// container, so the folder is not its own and is not set.
std::uint64_t Identifier::cgroup_of(pid_t pid) const {
  const auto path = procfs::parse_unified_cgroup(proc_.read(pid, "cgroup").value_or(""));
  return path && !cgroup_root_.empty() ? cgroup_id_of(cgroup_root_ + *path) : 0;
}

void Identifier::add_cgroup(pid_t pid, Identity& identity) const {
  const auto path = procfs::parse_unified_cgroup(proc_.read(pid, "cgroup").value_or(""));
  if (!path || cgroup_root_.empty()) return;
  identity.cgroup_id = cgroup_id_of(cgroup_root_ + *path);
  const auto guess = from_path(*path);
  const bool named = guess && (!guess->id.empty() || guess->engine == identity.engine);
  if (named && guess->id == identity.engine_id) identity.cgroup = cgroup_root_ + guess->cgroup;
}

void Identifier::note_completeness(pid_t pid, Identity& identity) const {
  identity.complete = !reading_;
  if (reading_) incomplete_.insert(pid);
}

Identity Identifier::identify(pid_t pid) const {
  reading_ = false;
  auto [guess, nested] = evidence_of(pid);
  if (nested) {
    Identity identity{guess.engine, "", names::from_program(proc_.comm(pid), pid)};
    add_cgroup(pid, identity);
    note_completeness(pid, identity);
    return identity;
  }
  const names::Guess environment_guess = guess_by_environment(pid);
  const bool flatpak = guess.engine == "bubblewrap" && environment_guess.engine == "flatpak";
  if (guess.engine.empty() || flatpak) guess.engine = environment_guess.engine;
  if (guess.name.empty() && names::is_hex_id(guess.id)) guess.name = guess.id.substr(0, 12);
  if (guess.name.empty()) guess.name = environment_guess.name;
  if (guess.name.empty()) guess.name = names::from_program(proc_.comm(pid), pid);
  Identity identity{guess.engine, guess.id, guess.name};
  add_cgroup(pid, identity);
  note_completeness(pid, identity);
  return identity;
}

// ---- boundary

Boundary::Boundary(const ProcDir& proc, const Identifier& identifier) {
  for (const pid_t pid : identifier.lineage()) {
    if (const auto inode = proc.netns(pid)) ours_.insert(*inode);
    if (const auto files = proc.net_files(pid)) ours_.insert(*files);
  }
}

Boundary::Verdict Boundary::judge(const Netns& netns) const {
  if (is_ours(netns.inode())) return {.outside = true};
  const auto gate = entry_userns_of(netns.fd());
  if (!gate) return {.outside = true};
  if (gate->open) return {.owner = gate->owner};
  if (!gate->userns.valid()) {  // owned by our own user namespace, as if made by `ip netns`
    return {.owner = 0,
            .inaccessible =
                "cannot enter the network namespace: it belongs to root; run portfwd as root, or "
                "create it in a user namespace of your own (podman, bwrap, unshare -Urn)"};
  }
  return {.owner = gate->owner,
          .inaccessible = fmt::format("cannot enter the network namespace: it belongs to uid {}; "
                                      "run portfwd as that user or as root",
                                      gate->owner)};
}

// ---- ids of containers

namespace {

constexpr std::size_t kShortIdLength = 12;

/// @return nothing unless the whole text is a number of that base
std::optional<std::uint64_t> whole_number(std::string_view text, int base) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  return error == std::errc() && stop == end ? std::optional(number) : std::nullopt;
}

std::optional<std::uint64_t> short_id_number(std::string_view id) {
  return id.size() == kShortIdLength ? whole_number(id, 16) : std::nullopt;
}

}  // namespace

/// Ids that do not have the form of make() are left out, as make() might use them again.
void ContainerIds::restore(const Saved& saved, bool knows_used) {
  assert(former_.empty() && used_.empty());
  constexpr std::uint64_t kMostNumber = std::uint64_t{1} << 53;
  knows_used_ = knows_used;
  next_ = saved.next;
  for (const std::string& id : saved.used) {
    if (const auto number = short_id_number(id)) used_.insert(*number);
  }
  for (const KnownContainer& container : saved.containers) {
    const std::string_view id = container.id;
    const std::size_t numbered = id.starts_with('n')          ? 1
                                 : id.size() > kShortIdLength ? kShortIdLength + 1
                                                              : 0;
    const auto number = numbered == 0 ? 0 : whole_number(id.substr(numbered), 10);
    const auto brief = numbered == 1 ? 0 : short_id_number(id.substr(0, kShortIdLength));
    const bool separated = numbered != kShortIdLength + 1 || id[kShortIdLength] == '-';
    const bool known = std::ranges::find(former_, id, &KnownContainer::id) != former_.end();
    if (!number || *number >= kMostNumber || !brief || !separated || known) continue;
    if (numbered != 1) used_.insert(*brief);
    next_ = std::max(next_, *number + 1);
    former_.push_back(container);
  }
}

std::optional<std::string> ContainerIds::recall(const KnownContainer& container) {
  const auto found = std::ranges::find_if(former_, [&](const KnownContainer& former) {
    if (former.netns != container.netns) return false;
    const bool same_engine_id =
        !container.engine_id.empty() && former.engine_id == container.engine_id;
    const bool same_anchor = container.pid != 0 && container.started != 0 &&
                             former.pid == container.pid && former.started == container.started;
    return same_engine_id || same_anchor;
  });
  if (found == former_.end()) return std::nullopt;
  std::string id = std::move(found->id);
  former_.erase(found);
  return id;
}

std::string ContainerIds::make(const std::string& engine_id) {
  if (!names::is_hex_id(engine_id)) return fmt::format("n{}", next_++);
  std::string brief = engine_id.substr(0, kShortIdLength);
  const auto number = short_id_number(brief);
  assert(number);
  const bool is_new = used_.insert(*number).second;
  if (is_new && knows_used_) return brief;
  return fmt::format("{}-{}", brief, next_++);  // such as a restarted container
}

std::vector<std::string> ContainerIds::used(std::size_t most) const {
  std::vector<std::string> out;
  out.reserve(std::min(most, used_.size()));
  for (const std::uint64_t number : used_) {
    if (out.size() == most) break;
    out.push_back(fmt::format("{:0{}x}", number, kShortIdLength));
  }
  return out;
}

}  // namespace portfwd
