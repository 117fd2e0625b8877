// The processes of the machine and the network namespace of each, kept up to date at low cost: a
// known process is looked at again only while it is recent (it may still unshare or setns), when
// its /proc inode shows that another process has its pid, and in a full look. A process of another
// user in a namespace that cannot be seen is recognised at the first look, and costs next to
// nothing from then on. Owned by Discovery.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "discover/identity.h"
#include "kernel/procfs.h"

namespace portfwd {

class ProcessTable {
 public:
  struct Process {
    pid_t pid = 0;
    std::uint64_t folder = 0;  ///< inode of /proc/PID
    /// Inode of its network namespace; ProcDir::net_files() where that cannot be seen; 0 when
    /// neither is known, or the process is ours.
    std::uint64_t netns = 0;
    bool unseen = false;   ///< its namespace cannot be seen
    bool foreign = false;  ///< nor is it of concern: another user's (Identifier::is_foreign)
    uid_t owner = 0;       ///< of /proc/PID, when `foreign` was determined
    TimePoint first_seen{};
    std::uint8_t looks = 0;  ///< while it is recent
    /// Of its container, when its engine is known. For a process on the host's network it is looked
    /// up once, when the process is no longer recent: most processes of the host end before that.
    std::string engine_id{};
    bool reading = false;               ///< facts that determine its engine are being read
    std::uint64_t looked_at_netns = 0;  ///< at the last look, ours or not
    bool ours = false;
    bool asked_on_host = false;
    bool to_look_at = true;  ///< by continue_looks()
  };
  using IsOurs = std::function<bool(pid_t)>;

  /// @param is_ours a process that makes no container, such as a broker; asked when a process
  /// is found in a namespace where it was not before
  ProcessTable(const ProcDir& proc, const Identifier& identifier, const Boundary& boundary,
               IsOurs is_ours)
      : proc_(proc), identifier_(identifier), boundary_(boundary), is_ours_(std::move(is_ours)) {}

  /// Which of the known processes are looked at again.
  enum class Known {
    Recent,  ///< recent ones that are due
    Seen,  ///< and all whose namespace can be seen; those of other users are noticed by their exec
    All,
  };
  /// Lists all processes; continue_looks() looks at the new ones and at those of `known`. May be
  /// called again before all of these were looked at.
  Result<void> refresh(TimePoint now, Known known);
  /// Looks at those, the lowest pid first. @param enough asked now and then: true leaves the rest
  /// to the next call @return whether all were looked at
  bool continue_looks(const std::function<bool()>& enough);
  /// Recent processes that are due are looked at by the next continue_looks(). Lists nothing.
  void mark_due(TimePoint now);
  /// Looks again at those of which something was being read.
  void look_at_incomplete();
  /// Looks at one process now, known or not. @return nullptr when it is gone.
  const Process* look_at(pid_t pid, TimePoint now);

  [[nodiscard]] const Process* find(pid_t pid) const;
  [[nodiscard]] static bool is_recent(const Process& process, TimePoint now);
  [[nodiscard]] std::span<const Process> all() const noexcept { return processes_; }
  /// Pids seen in that namespace; ascending.
  [[nodiscard]] std::vector<pid_t> pids_in(std::uint64_t netns) const;
  /// Pids that the last call looked at; ascending.
  [[nodiscard]] std::span<const pid_t> looked_at() const noexcept { return looked_at_; }
  /// When the next recent process is due; TimePoint::max() when there is none, min() when
  /// continue_looks() has left some.
  [[nodiscard]] TimePoint recent_due() const noexcept { return recent_due_; }

 private:
  static constexpr std::size_t kLooksAtOnce = 16;  ///< about 20 us each

  void read_namespace(Process& process);
  [[nodiscard]] bool is_foreign(Process& process) const;
  void find_engine_id(Process& process) const;
  void note_recent(const Process& process);

  const ProcDir& proc_;
  const Identifier& identifier_;
  const Boundary& boundary_;
  IsOurs is_ours_;
  std::vector<Process> processes_;  ///< ascending by pid
  std::vector<Process> next_;       ///< what refresh() builds; kept for its memory
  std::vector<ProcDir::Entry> listing_;
  std::vector<pid_t> looked_at_;
  TimePoint recent_due_ = TimePoint::max();
};

}  // namespace portfwd
