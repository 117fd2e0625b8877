// Who a process's container is: puts together what names.h reads from the cgroup, the ancestors and
// the environment of one process. Owned by Discovery, used when a container is found and while it
// is young. It reads /proc and remembers only what is the daemon's own.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "discover/names.h"
#include "kernel/proc_dir.h"

namespace portfwd {

struct Identity {
  std::string engine;           ///< "" when none was recognised
  std::string engine_id;        ///< the engine's own id; "" when it has none or is not known
  std::string name;             ///< never empty
  std::uint64_t cgroup_id = 0;  ///< as Container has it
  std::string cgroup{};         ///< as Container has it
};

class Identifier {
 public:
  /// @param proc outlives this
  explicit Identifier(const ProcDir& proc);

  [[nodiscard]] Identity identify(pid_t pid) const;
  /// Identity::engine_id alone, at less cost.
  [[nodiscard]] std::string engine_id_of(pid_t pid) const;
  /// As far as the process's cgroup tells it beyond doubt: one file to read.
  [[nodiscard]] std::string engine_id_by_cgroup(pid_t pid) const;

  /// The daemon and its ancestors, nearest first.
  [[nodiscard]] const std::vector<pid_t>& lineage() const noexcept { return lineage_; }

 private:
  [[nodiscard]] std::optional<names::Guess> from_cgroup(pid_t pid) const;
  [[nodiscard]] names::Guess from_ancestors(pid_t pid) const;
  [[nodiscard]] bool share_network(pid_t one, pid_t other) const;
  [[nodiscard]] names::Guess from_outside(pid_t pid) const;
  void add_cgroup(pid_t pid, Identity& identity) const;

  const ProcDir& proc_;
  std::vector<pid_t> lineage_;
  std::string own_engine_id_;
  std::string host_name_;
  std::string cgroup_root_;  ///< where the unified hierarchy is mounted; "" when it is not
};

}  // namespace portfwd
