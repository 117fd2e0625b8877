// Table of the processes of the machine with the network namespace of each, kept up to date at low
// cost. A known process is checked again only while it is recent (it may still unshare or setns),
// if its /proc inode shows that its pid was reused, and in a full scan. A process of another user
// in an invisible namespace is recognised at its first check and costs almost nothing afterwards.
// Owned by Discovery.
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
    /// Inode of its network namespace; ProcDir::net_files() if that is not visible; 0: neither is
    /// known, or the process is the daemon's.
    std::uint64_t netns = 0;
    bool unseen = false;   ///< its namespace is not visible
    bool foreign = false;  ///< and it is another user's (Identifier::is_foreign)
    uid_t owner = 0;       ///< of /proc/PID, when `foreign` was determined
    TimePoint first_seen{};
    std::uint8_t rechecks = 0;  ///< repeated checks that were due so far, see kRecheckTimes
    /// The engine's id of its container, if known. For a process on the host's network it is looked
    /// up once, after kRechecksUntilStable checks: most processes of the host have ended before.
    std::string engine_id{};
    bool reading = false;             ///< facts that determine its engine are being read
    std::uint64_t checked_netns = 0;  ///< as `netns`, but for the daemon's processes as well
    bool ours = false;                ///< see IsOurs
    bool looked_up_on_host = false;   ///< engine_id was looked up on the host's network
    bool needs_check = true;          ///< to be checked by continue_checks()
  };
  /// Whether the process is the daemon's own, such as a broker, and makes no container.
  using IsOurs = std::function<bool(pid_t)>;

  /// The references are borrowed and must outlive this. @param is_ours called when a process is
  /// found in another namespace than before
  ProcessTable(const ProcDir& proc, const Identifier& identifier, const Boundary& boundary,
               IsOurs is_ours)
      : proc_(proc), identifier_(identifier), boundary_(boundary), is_ours_(std::move(is_ours)) {}

  /// The known processes to be checked again.
  enum class Known {
    Recent,  ///< recent ones that are due
    Seen,    ///< also all whose namespace is visible; the others are noticed by their exec
    All,
  };
  /// List all processes and mark the new ones, and those of `known`, to be checked by
  /// continue_checks(). May be called again before all of these were checked.
  Result<void> refresh(TimePoint now, Known known);
  /// Check the marked processes in ascending order of their pids. @param enough called after every
  /// kChecksPerBatch processes; true leaves the rest to the next call
  /// @return whether all were checked
  bool continue_checks(const std::function<bool()>& enough);
  /// Mark the recent processes that are due, without listing any.
  void mark_due(TimePoint now);
  /// Check the processes again for which facts were being read.
  void recheck_incomplete();
  /// Check one process now, known or not. @return null for an unknown process that has exited or is
  /// the daemon's
  const Process* check_now(pid_t pid, TimePoint now);

  [[nodiscard]] const Process* find(pid_t pid) const;
  [[nodiscard]] static bool is_recent(const Process& process, TimePoint now);
  [[nodiscard]] std::span<const Process> all() const noexcept { return processes_; }
  /// Pids that were in the namespace at their last check; ascending.
  [[nodiscard]] std::vector<pid_t> pids_in(std::uint64_t netns) const;
  /// Pids that the last call checked; ascending.
  [[nodiscard]] std::span<const pid_t> checked_pids() const noexcept { return checked_pids_; }
  /// When the next recent process is due; max(): there is none, min(): continue_checks() has left
  /// some.
  [[nodiscard]] TimePoint recent_due() const noexcept { return recent_due_; }

 private:
  static constexpr std::size_t kChecksPerBatch = 16;  ///< about 20 us each

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
  std::vector<pid_t> checked_pids_;
  TimePoint recent_due_ = TimePoint::max();
};

}  // namespace portfwd
