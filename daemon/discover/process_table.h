// The processes of the machine and the network namespace of each, kept up to date at little cost: a
// known process is not looked at again, except while it is young (it may yet unshare or setns),
// when its /proc inode shows that the pid is another's, and in a full look. Another user's in a
// namespace that cannot be seen is recognised at the first look, and costs next to nothing then.
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
    /// Inode of its network namespace; where that can't be seen what ProcDir::net_files says; 0
    /// when neither is to be had, or the process is ours.
    std::uint64_t netns = 0;
    bool unseen = false;   ///< its namespace can't be seen
    bool foreign = false;  ///< nor is it of concern: another user's (Identifier::is_foreign)
    uid_t owner = 0;       ///< of /proc/PID, when `foreign` was found out
    TimePoint first_seen{};
    std::uint8_t looks = 0;  ///< while young
    /// Of its container, when its engine is known; of one on the host's network, which is no hurry,
    /// asked once when the process is no longer young: most of the host's never are so old.
    std::string engine_id{};
    bool reading = false;               ///< whether its engine can be known is not yet known
    std::uint64_t looked_at_netns = 0;  ///< at the last look, ours or not
    bool ours = false;
    bool asked_on_host = false;
    bool to_look_at = true;  ///< by look_on()
  };
  using IsOurs = std::function<bool(pid_t)>;

  /// @param is_ours a process that makes no container, such as a broker; asked when a process
  /// is found in a namespace where it was not before
  ProcessTable(const ProcDir& proc, const Identifier& identifier, const Boundary& boundary,
               IsOurs is_ours)
      : proc_(proc), identifier_(identifier), boundary_(boundary), is_ours_(std::move(is_ours)) {}

  /// Who of those that are known already is looked at.
  enum class Known {
    Young,   ///< those whose time has come
    Seen,    ///< and all whose namespace can be seen: what another user's does, its own exec tells
    Anyone,  ///< all
  };
  /// Takes in which processes have come and gone. Lists all; look_on() looks at the new ones and at
  /// those of `known`. May be called again before all of these are looked at.
  Result<void> refresh(TimePoint now, Known known);
  /// Looks at those, the lowest pid first. @param enough asked now and then: the rest is for the
  /// next call @return whether all have been looked at
  bool look_on(const std::function<bool()>& enough);
  /// Has look_on() look again at the young whose time has come; lists nothing.
  void note_due(TimePoint now);
  /// Looks again at those whose engine was not known yet.
  void look_at_unread();
  /// Looks at one process now, known or not. @return nullptr when it is gone.
  const Process* look_at(pid_t pid, TimePoint now);

  [[nodiscard]] const Process* find(pid_t pid) const;
  [[nodiscard]] static bool is_young(const Process& process, TimePoint now);
  [[nodiscard]] std::span<const Process> all() const noexcept { return processes_; }
  /// Whom the last call looked at; ascending.
  [[nodiscard]] std::span<const pid_t> looked_at() const noexcept { return looked_at_; }
  /// When the next young one is due; TimePoint::max() when nobody is young, min()
  /// when look_on() has left some.
  [[nodiscard]] TimePoint young_due() const noexcept { return young_due_; }

 private:
  static constexpr std::size_t kLooksAtOnce = 16;  ///< some 20 us each

  void look(Process& process);
  [[nodiscard]] bool is_foreign(Process& process) const;
  void find_engine_id(Process& process) const;
  void note_youth(const Process& process);

  const ProcDir& proc_;
  const Identifier& identifier_;
  const Boundary& boundary_;
  IsOurs is_ours_;
  std::vector<Process> processes_;  ///< ascending by pid
  std::vector<Process> next_;       ///< what refresh() builds; kept for its memory
  std::vector<ProcDir::Entry> listing_;
  std::vector<pid_t> looked_at_;
  TimePoint young_due_ = TimePoint::max();
};

}  // namespace portfwd
