// Cache of facts from the command lines and environments of processes. Owned by main; used by
// Discovery for names and by the access layer for the programs behind listeners.
//
// A separate process (Reader) reads the texts, so facts may arrive later; the observer is notified
// then. An entry belongs to one process (pid and start time). After renew(), as after an exec, the
// next of() reads it again. If a program has overwritten its environment with its title (nginx,
// redis), the facts read before are kept. All of this can be forged by the process and is not
// trusted.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/client/reader.h"
#include "discover/names.h"
#include "kernel/procfs.h"

namespace portfwd {

/// A process with PORTFWD=off in its environment.
struct OptOut {
  std::string boot;           ///< id of the boot in which it runs, see sysctl::boot_id()
  pid_t pid = 0;              ///< in the daemon's pid namespace
  std::uint64_t started = 0;  ///< see procfs::Stat
  friend bool operator==(const OptOut&, const OptOut&) = default;
};

// The live processes with PORTFWD=off in their environment. It is saved across a restart of the
// daemon, because a program may have overwritten its environment with its title by then, and the
// decision must stay the same. Owned by the ProcessFactsCache.
class OptOuts {
 public:
  static constexpr std::size_t kMost = 4096;

  /// @param boot see OptOut
  explicit OptOuts(std::string boot) : boot_(std::move(boot)) {}

  void set_observer(std::function<void()> on_change) { on_change_ = std::move(on_change); }
  /// Restore the processes. @param before result of all() before the restart; entries of another
  /// boot are dropped
  void recall(const std::vector<OptOut>& before) {
    for (const OptOut& each : before) {
      if (each.boot == boot_ && started_.size() < kMost) started_.emplace(each.pid, each.started);
    }
  }
  void add(pid_t pid, std::uint64_t started) {
    if (contains(pid, started) || started_.size() >= kMost) return;
    started_[pid] = started;
    on_change_();
  }
  [[nodiscard]] bool contains(pid_t pid, std::uint64_t started) const {
    const auto known = started_.find(pid);
    return known != started_.end() && known->second == started;
  }
  void forget_unless(const std::function<bool(pid_t)>& is_there) {
    const auto ended =
        std::erase_if(started_, [&](const auto& process) { return !is_there(process.first); });
    if (ended > 0) on_change_();
  }
  [[nodiscard]] std::vector<OptOut> all() const {
    std::vector<OptOut> out;
    for (const auto& [pid, started] : started_) out.push_back({boot_, pid, started});
    return out;
  }

 private:
  const std::string boot_;
  std::map<pid_t, std::uint64_t> started_;
  std::function<void()> on_change_ = [] {};
};

struct ProcessFacts {
  std::string command;                 ///< see command_text()
  std::optional<names::Guess> keeper;  ///< the container that it keeps, by its command line
  std::string replaces;                ///< see names::name_to_replace
  names::Guess by_environment;
  bool opted_out = false;  ///< the environment contains PORTFWD=off
  /// The title has overwritten the environment, and no fact from it was read before.
  bool environment_lost = false;

  friend bool operator==(const ProcessFacts&, const ProcessFacts&) = default;
};

/// @param cmdline, environ contents of the files in /proc; no environ: it cannot be read
/// @param host_name of the host, which is not used as a container's name
/// @param before facts from the environment, kept if that is overwritten or cannot be read
[[nodiscard]] ProcessFacts parse_process_facts(std::string_view cmdline,
                                               std::optional<std::string_view> environ,
                                               std::string_view host_name,
                                               const ProcessFacts& before = {});

/// The arguments in the contents of /proc/PID/cmdline, separated by single spaces.
[[nodiscard]] std::string command_text(std::string_view cmdline);

class ProcessFactsCache {
 public:
  /// Both are borrowed and must outlive this.
  ProcessFactsCache(Reader& reader, const ProcDir& proc);

  /// Called from the loop for each process whose facts have arrived for the first time or changed.
  using OnFacts = std::move_only_function<void(pid_t)>;
  void set_observer(OnFacts on_facts) { on_facts_ = std::move(on_facts); }

  /// The facts, which are requested if they are unknown or marked by renew().
  /// @return null while they are read for the first time; empty facts if they cannot be read
  const ProcessFacts* of(pid_t pid);
  /// Make the next of() read the facts again, as they may have changed.
  void renew(pid_t pid);

  using Done = std::move_only_function<void(const ProcessFacts&)>;
  /// Read the facts now. @param by a reader that may read the process; null: the ordinary one
  [[nodiscard]] Reader::Call read(pid_t pid, Reader* by, Done done);

  [[nodiscard]] OptOuts& opt_outs() { return opt_outs_; }
  /// Add the process to the opt-outs although its environment does not contain PORTFWD=off, or no
  /// longer does.
  void note_opt_out(pid_t pid) { opt_outs_.add(pid, entry_of(pid).started); }

  /// Drop the entries of all processes for which `is_there` is false.
  void forget_unless(const std::function<bool(pid_t)>& is_there);
  /// Wait for outstanding replies, see Reader::wait. @return whether there were any
  bool wait(Duration limit);

 private:
  struct Entry {
    std::uint64_t started = 0;
    std::optional<ProcessFacts> facts;
    bool stale = false;
    Reader::Call call;
  };
  Entry& entry_of(pid_t pid);
  /// @return whether the facts changed
  bool update(pid_t pid, Entry& entry, const Result<Reader::Texts>& texts);

  Reader& reader_;
  const ProcDir& proc_;
  std::string host_name_;
  OptOuts opt_outs_;
  std::map<pid_t, Entry> entries_;
  OnFacts on_facts_ = [](pid_t) {};
};

}  // namespace portfwd
