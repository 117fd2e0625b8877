// Facts about processes from their command lines and environments. Owned by main; used by Discovery
// for names and by the access layer for the programs behind listeners.
//
// A reader process reads them, so a fact may arrive only later: the observer is called then. An
// entry belongs to one process (pid and start time) and is read again when it is requested after
// renew(), as after an exec. A program that writes its title over its environment (nginx, redis)
// keeps what was read before. The process itself has made up all of this; nothing here is trusted.
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

/// A process of one boot of this machine whose environment said PORTFWD=off.
struct OptOut {
  std::string boot;           ///< the kernel's random id of it
  pid_t pid = 0;              ///< as the daemon counts
  std::uint64_t started = 0;  ///< as ProcDir::start_time() has it
  friend bool operator==(const OptOut&, const OptOut&) = default;
};

// The processes whose environment said PORTFWD=off, as long as they live. A program that writes its
// title over its environment says so only once, so this is kept across a restart of the daemon: a
// decision must be the same afterwards. Part of the ProcessFactsCache.
class OptOuts {
 public:
  static constexpr std::size_t kMost = 4096;

  /// @param boot see OptOut
  explicit OptOuts(std::string boot) : boot_(std::move(boot)) {}

  void set_observer(std::function<void()> on_change) { on_change_ = std::move(on_change); }
  /// @param before what all() returned before the restart; entries of another boot are dropped
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
  std::string command;                 ///< its words, separated by single spaces
  std::optional<names::Guess> keeper;  ///< the container that it keeps, by its command line
  std::string replaces;                ///< see names::name_to_replace
  names::Guess by_environment;
  bool opted_out = false;  ///< the environment says PORTFWD=off
  /// Its environment cannot be known any more: the title has overwritten it.
  bool environment_lost = false;

  friend bool operator==(const ProcessFacts&, const ProcessFacts&) = default;
};

/// @param cmdline, environ as /proc has them; no environ: it cannot be read
/// @param host_name the host's own, which is no container's name
/// @param before kept where the texts do not have the fact
[[nodiscard]] ProcessFacts parse_process_facts(std::string_view cmdline,
                                               std::optional<std::string_view> environ,
                                               std::string_view host_name,
                                               const ProcessFacts& before = {});

/// The words of a command line as /proc has it, separated by single spaces.
[[nodiscard]] std::string command_text(std::string_view cmdline);

class ProcessFactsCache {
 public:
  /// Borrows both.
  ProcessFactsCache(Reader& reader, const ProcDir& proc);

  /// Called for each process whose facts have arrived or changed, never from within a call.
  using OnFacts = std::move_only_function<void(pid_t)>;
  void set_observer(OnFacts on_facts) { on_facts_ = std::move(on_facts); }

  /// @return null while they are being read; empty when they cannot be read
  const ProcessFacts* of(pid_t pid);
  /// The facts may have changed: of() reads them once more.
  void renew(pid_t pid);

  using Done = std::move_only_function<void(const ProcessFacts&)>;
  /// Reads them now. @param by a reader that may read the process; null: the ordinary one
  [[nodiscard]] Reader::Call read(pid_t pid, Reader* by, Done done);

  [[nodiscard]] OptOuts& opt_outs() { return opt_outs_; }
  /// The process is opted out though its own environment does not say so (any more).
  void note_opt_out(pid_t pid) { opt_outs_.add(pid, entry_of(pid).started); }

  /// Forgets all processes for which `is_there` is false.
  void forget_unless(const std::function<bool(pid_t)>& is_there);
  /// See Reader::wait. @return whether anything was being read
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
