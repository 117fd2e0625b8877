// Which container a process is in: combines what names.h reads from the cgroup, the ancestors and
// the environment of one process. Owned by main, used when a container is found and while it is
// recent. It reads /proc and remembers only the daemon's own place.
//
// A process can make up some of these facts, so each counts only where a lie gains nothing:
// - The engine's id in the cgroup decides, if there is one. Who may write to a cgroup made its
//   folder, or the one above: the engine, systemd, root. A container to which its folder is
//   delegated can make folders below its own, hence the outermost id counts. Nobody can leave for
//   another container's folder, as that takes write access to the folder above both. Cgroup
//   namespaces change what the process reads, not what the daemon reads.
// - A network namespace that a process of such a container made is a sandbox in it, without id; its
//   name is that of its program with a pid, whatever its environment or its keepers say.
// - A keeper (conmon, a shim, bwrap) counts only if it is outside: an ancestor, in another network
//   namespace than the process, and in our user namespace or in one that maps more than one id. For
//   the latter the privileged newuidmap is needed, which a sandbox with no_new_privs cannot run; a
//   sandbox that maps one id is never a keeper. A keeper of another user has no id to give.
// - `container=` and HOSTNAME, the process's own words, only name a sandbox of which nothing else
// is
//   known. They never give an id, hence no labels and no image.
// - The program's name (comm) is shown with the pid behind it, which no other container has.
// - Names in /run/netns are mounts in the daemon's mount namespace: only root makes them.
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
  std::string engine;           ///< "" when none was recognised
  std::string engine_id;        ///< the engine's own id; "" when it has none or is not known
  std::string name;             ///< never empty
  std::uint64_t cgroup_id = 0;  ///< as Container has it
  std::string cgroup{};         ///< as Container has it
  /// False while facts about processes are being read: it may change when ProcessFactsCache
  /// notifies.
  bool complete = true;
};

class Identifier {
 public:
  /// Both outlive this.
  Identifier(const ProcDir& proc, ProcessFactsCache& facts);

  [[nodiscard]] Identity identify(pid_t pid) const;
  /// Identity::engine_id alone, at less cost. @return nothing while that is being read
  [[nodiscard]] std::optional<std::string> engine_id_of(pid_t pid) const;
  /// The same, as far as the process's cgroup proves it: reads one file.
  [[nodiscard]] std::string engine_id_by_cgroup(pid_t pid) const;

  /// The processes whose identity was not complete when it was last determined.
  [[nodiscard]] std::set<pid_t> take_incomplete() const { return std::exchange(incomplete_, {}); }
  /// Whether an engine of root made its cgroup, so that it is in no user's session.
  [[nodiscard]] bool is_roots_by_cgroup(pid_t pid) const;
  /// Whether the process is of no concern: neither the user's own nor root's. A process of the
  /// user's may be in a user namespace that gives it another uid, which then maps the user's, and
  /// root's engines make cgroups where no user's can. @param owner of it, or of its namespace
  [[nodiscard]] bool is_foreign(pid_t pid, uid_t owner) const;
  /// The same by its effective uid.
  [[nodiscard]] bool is_foreign(pid_t pid) const;

  /// The daemon and its ancestors, nearest first.
  [[nodiscard]] const std::vector<pid_t>& lineage() const noexcept { return lineage_; }

 private:
  /// What is known beyond the process's own words.
  struct Place {
    names::Guess guess;
    bool nested = false;  ///< in a sandbox that a process of an engine's container made
  };
  [[nodiscard]] std::optional<names::Guess> from_path(std::string_view path) const;
  [[nodiscard]] std::optional<names::Guess> from_cgroup(pid_t pid) const;
  [[nodiscard]] bool is_nested(pid_t pid, const std::string& engine_id) const;
  [[nodiscard]] names::Guess from_keeper(pid_t pid) const;
  [[nodiscard]] bool can_keep(pid_t keeper) const;
  [[nodiscard]] std::string engine_of_sandbox(pid_t pid) const;
  [[nodiscard]] std::uint64_t network_of(pid_t pid) const;
  [[nodiscard]] bool is_of_another_user(pid_t pid) const;
  [[nodiscard]] Place place_of(pid_t pid) const;
  void add_cgroup(pid_t pid, Identity& identity) const;
  [[nodiscard]] const ProcessFacts& facts_of(pid_t pid) const;
  [[nodiscard]] names::Guess guess_by_environment(pid_t pid) const;
  void note_completeness(pid_t pid, Identity& identity) const;

  const ProcDir& proc_;
  ProcessFactsCache& facts_;
  mutable bool reading_ = false;  ///< some requested facts have not arrived yet
  mutable std::set<pid_t> incomplete_;
  std::vector<pid_t> lineage_;
  std::string own_folder_;  ///< the cgroup of the container that the daemon runs in; "": none
  std::string own_id_map_;  ///< of its user namespace
  std::uint64_t own_userns_ = 0;
  std::uint64_t own_network_ = 0;
  std::string cgroup_root_;  ///< where the unified hierarchy is mounted; "" when it is not
};

/// A container that is there, and what tells that it is the same one in the daemon's next life.
struct KnownContainer {
  std::string id;
  std::string name;
  std::string engine;
  std::string engine_id;      ///< "" if it has none
  std::uint64_t netns = 0;    ///< of its ContainerKey
  pid_t pid = 0;              ///< its anchor process; 0: none
  std::uint64_t started = 0;  ///< of the anchor, as ProcDir has it
  friend bool operator==(const KnownContainer&, const KnownContainer&) = default;
};

// The ids of containers: "a1b2c3d4e5f6", the beginning of the engine's id, if that was not used
// before, else "a1b2c3d4e5f6-7"; "n7" without an engine's id. No id is given out twice under one
// InstanceId. A container that was there when the daemon ended keeps its id: one in the same
// network namespace with the same engine's id, or with the same anchor process. The namespace alone
// proves nothing, since the next one may get its inode. Owned by the Registry.
class ContainerIds {
 public:
  struct Saved {
    std::vector<KnownContainer> containers;
    std::vector<std::string> used;  ///< ids made of an engine's id
    std::uint64_t next = 1;         ///< number in the next id that has one
  };
  /// Of the same boot. What makes no sense is left out.
  /// @param knows_used whether `used` is complete; if not, each new id has a number
  void restore(const Saved& saved, bool knows_used);

  /// The id that the container had when the daemon ended; given out once.
  /// @param container its own id is not looked at
  [[nodiscard]] std::optional<std::string> recall(const KnownContainer& container);
  /// A new one. @param engine_id "" if it has none
  [[nodiscard]] std::string make(const std::string& engine_id);

  [[nodiscard]] std::uint64_t next_number() const { return next_; }
  /// Some `most` of them if there are more.
  [[nodiscard]] std::vector<std::string> used(std::size_t most) const;
  /// Those that were not recalled.
  [[nodiscard]] const std::vector<KnownContainer>& former() const { return former_; }
  /// What has not been found again by now is gone.
  std::vector<KnownContainer> take_former() { return std::exchange(former_, {}); }

 private:
  std::vector<KnownContainer> former_;
  std::set<std::uint64_t> used_;  ///< the first 12 hex digits of each engine's id
  bool knows_used_ = true;
  std::uint64_t next_ = 1;
};

// Which network namespaces are of concern: not the daemon's own, not its ancestors', none that
// belongs to a user namespace above ours; and which of the others may be entered. Owned by main.
class Boundary {
 public:
  /// Reads the namespaces of the daemon's ancestors once. One that cannot be seen does not matter:
  /// nor can any other process in it.
  Boundary(const ProcDir& proc, const Identifier& identifier);

  /// The daemon's own or an ancestor's. @param netns its inode, or ProcDir::net_files()
  [[nodiscard]] bool is_ours(std::uint64_t netns) const { return ours_.contains(netns); }

  struct Verdict {
    bool outside = false;        ///< of no concern: ours, or owned from above our user namespace
    uid_t owner = 0;             ///< on the host, of the user namespace that is the gate
    std::string inaccessible{};  ///< why we may not enter, remedy included; "" when we may
  };
  [[nodiscard]] Verdict judge(const Netns& netns) const;

 private:
  std::set<std::uint64_t> ours_;
};

}  // namespace portfwd
