// Identity of the container that a process is in, from the process's cgroup, ancestors and
// environment, which names.h parses; then the ids that the daemon gives to containers, and the
// boundary between namespaces that concern the daemon and others. Identifier and Boundary are owned
// by main, ContainerIds by the Registry. Identifier reads /proc on each call; it stores only the
// daemon's own lineage, cgroup and namespaces, and the processes whose facts are being read.
//
// A process can forge some of these sources, so each one counts only where forging gains nothing:
// - The engine's id in the cgroup path decides, if there is one. Only a process that may write to
//   the folder above can make a cgroup: the engine, systemd, root. A container with a delegated
//   cgroup can make folders below its own, hence the outermost id counts. A process cannot move to
//   another container's cgroup, as that needs write access to the folder above both. A cgroup
//   namespace changes the path that the process reads, not the one that the daemon reads.
// - A network namespace made by a process of such a container is a sandbox in it. It has no
//   engine's id. Its name is made of the comm and pid of its program; environment and keepers are
//   ignored.
// - A keeper (conmon, a shim, bwrap) counts only if it is outside of the container: an ancestor in
//   another network namespace than the process, and in the daemon's user namespace or one that maps
//   more than one id. To map several ids takes the privileged newuidmap, which a sandbox with
//   no_new_privs cannot run; a sandbox that maps one id is never a keeper. The id from a keeper of
//   another user is ignored.
// - `container=` and HOSTNAME in the process's environment only name a sandbox for which there is
//   no other source. They never give an engine's id, hence no labels and no image.
// - The program's name (comm) is shown with its pid, so that it cannot equal another name.
// - Names in /run/netns are mounts in the daemon's mount namespace, which only root can make.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "discover/names.h"
#include "discover/process_facts.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"

namespace portfwd {

struct Identity {
  std::string engine;           ///< "" if none was recognised
  std::string engine_id;        ///< "" if it has none or it is not known
  std::string name;             ///< never empty
  std::uint64_t cgroup_id = 0;  ///< as in Container
  std::string cgroup{};         ///< as in Container
  /// False while facts of processes are being read; the identity may change when they arrive, which
  /// ProcessFactsCache reports.
  bool complete = true;
};

class Identifier {
 public:
  /// Both are borrowed and must outlive this.
  Identifier(const ProcDir& proc, ProcessFactsCache& facts);

  [[nodiscard]] Identity identify(pid_t pid) const;
  /// Identity::engine_id alone, at less cost. @return nothing while facts are being read
  [[nodiscard]] std::optional<std::string> engine_id_of(pid_t pid) const;
  /// The engine's id by the process's cgroup alone, "" if there is none. Reads one file.
  [[nodiscard]] std::string engine_id_by_cgroup(pid_t pid) const;
  /// The id of the process's cgroup (see cgroup_id_of); 0 when unknown. Reads one file.
  [[nodiscard]] std::uint64_t cgroup_of(pid_t pid) const;

  /// The pids for which identify() has returned an incomplete identity since the last call.
  [[nodiscard]] std::set<pid_t> take_incomplete() const { return std::exchange(incomplete_, {}); }
  /// Whether root's engine made the process's cgroup, so that it is outside of all user sessions.
  [[nodiscard]] bool is_roots_by_cgroup(pid_t pid) const;
  /// Whether the daemon is not concerned with the process, because it belongs neither to the user
  /// nor to root. A process with another uid is the user's if its user namespace maps the user's
  /// uid, and root's if root's engine made its cgroup.
  /// @param owner of the process, or of its namespace
  [[nodiscard]] bool is_foreign(pid_t pid, uid_t owner) const;
  /// The same with the process's effective uid as owner.
  [[nodiscard]] bool is_foreign(pid_t pid) const;

  /// The daemon and its ancestors, nearest first.
  [[nodiscard]] const std::vector<pid_t>& lineage() const noexcept { return lineage_; }

 private:
  /// What cgroup and ancestors show, without the process's environment.
  struct Evidence {
    names::Guess guess;
    bool nested = false;  ///< in a sandbox made by a process of an engine's container
  };
  [[nodiscard]] std::optional<names::Guess> from_path(std::string_view path) const;
  [[nodiscard]] std::optional<names::Guess> from_cgroup(pid_t pid) const;
  [[nodiscard]] bool is_nested(pid_t pid, const std::string& engine_id) const;
  [[nodiscard]] names::Guess from_keeper(pid_t pid) const;
  [[nodiscard]] bool can_keep(pid_t keeper) const;
  [[nodiscard]] std::string engine_of_sandbox(pid_t pid) const;
  [[nodiscard]] std::uint64_t network_of(pid_t pid) const;
  [[nodiscard]] bool is_of_another_user(pid_t pid) const;
  [[nodiscard]] Evidence evidence_of(pid_t pid) const;
  void add_cgroup(pid_t pid, Identity& identity) const;
  [[nodiscard]] const ProcessFacts& facts_of(pid_t pid) const;
  [[nodiscard]] names::Guess guess_by_environment(pid_t pid) const;
  void note_completeness(pid_t pid, Identity& identity) const;

  const ProcDir& proc_;
  ProcessFactsCache& facts_;
  mutable bool reading_ = false;  ///< facts requested by the present call are being read
  mutable std::set<pid_t> incomplete_;
  std::vector<pid_t> lineage_;
  std::string own_folder_;  ///< the cgroup of the container that the daemon runs in; "": none
  std::string own_id_map_;  ///< of the daemon's user namespace
  std::uint64_t own_userns_ = 0;
  std::uint64_t own_network_ = 0;
  std::string cgroup_root_;  ///< mount point of the unified hierarchy; "": not mounted
};

/// A container with the facts by which it is recognised after a restart of the daemon.
struct KnownContainer {
  std::string id;
  std::string name;
  std::string engine;
  std::string engine_id;      ///< "" if it has none
  std::uint64_t netns = 0;    ///< of its ContainerKey
  pid_t pid = 0;              ///< its anchor process; 0: none
  std::uint64_t started = 0;  ///< start time of the anchor, see procfs::Stat
  friend bool operator==(const KnownContainer&, const KnownContainer&) = default;
};

// The ids of containers. Three forms: "a1b2c3d4e5f6", the first 12 digits of the engine's id;
// "a1b2c3d4e5f6-7", if that was used before; "n7", for a container without an engine's id. No id is
// used twice under one InstanceId. After a restart of the daemon a container keeps its id if it is
// in the same network namespace and has the same engine's id or the same anchor process. The
// namespace alone is not enough, since its inode may be reused. Owned by the Registry.
class ContainerIds {
 public:
  struct Saved {
    std::vector<KnownContainer> containers;
    std::vector<std::string> used;  ///< ids made of an engine's id
    std::uint64_t next = 1;         ///< number in the next id that has one
  };
  /// Take over what was saved in the same boot. Malformed ids are left out. May be called once,
  /// before any id is made. @param knows_used whether `used` is complete; if not, each new id gets
  /// a number
  void restore(const Saved& saved, bool knows_used);

  /// The id that the container had before the restart, once for each former container.
  /// @param container its own id is ignored
  [[nodiscard]] std::optional<std::string> recall(const KnownContainer& container);
  /// Make a new id. @param engine_id "" if it has none
  [[nodiscard]] std::string make(const std::string& engine_id);

  [[nodiscard]] std::uint64_t next_number() const { return next_; }
  /// The ids made of an engine's id, at most `most` of them.
  [[nodiscard]] std::vector<std::string> used(std::size_t most) const;
  /// The containers of before the restart that were not recalled.
  [[nodiscard]] const std::vector<KnownContainer>& former() const { return former_; }
  /// Remove and return the containers that were not recalled: they no longer exist.
  std::vector<KnownContainer> take_former() { return std::exchange(former_, {}); }

 private:
  std::vector<KnownContainer> former_;
  std::set<std::uint64_t> used_;  ///< the first 12 hex digits of each engine's id
  bool knows_used_ = true;
  std::uint64_t next_ = 1;
};

// The network namespaces that concern the daemon, and whether each may be entered. The daemon's
// own, those of its ancestors and those owned by a user namespace above the daemon's do not concern
// it. Owned by main.
class Boundary {
 public:
  /// Read the namespaces of the daemon and its ancestors, once.
  Boundary(const ProcDir& proc, const Identifier& identifier);

  /// Whether it is the daemon's own or an ancestor's. @param netns inode, or ProcDir::net_files()
  [[nodiscard]] bool is_ours(std::uint64_t netns) const { return ours_.contains(netns); }

  struct Verdict {
    bool outside = false;        ///< does not concern the daemon
    uid_t owner = 0;             ///< on the host; see Gate::owner
    std::string inaccessible{};  ///< why the daemon may not enter, with the remedy; "": it may
  };
  [[nodiscard]] Verdict judge(const Netns& netns) const;

 private:
  std::set<std::uint64_t> ours_;
};

}  // namespace portfwd
