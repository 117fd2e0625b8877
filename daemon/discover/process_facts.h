// What processes say of themselves, by command line and environment, as far as it has been read.
// The reader answers when it can, so a fact may be there only later: whoever asked for it is told
// then. Owned by main; used by Discovery for names and by the reach for the programs behind
// listeners.
//
// An entry belongs to one process (pid and start time) and is read again when it is asked for after
// renew(), as after an exec. A program that writes its title over its environment (nginx, redis)
// keeps what it said before. The process made all of this up itself; nothing here is trusted.
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

// The processes whose environment said PORTFWD=off, as long as they live. A program that writes its
// title over its environment (nginx, redis) says so only once, so this outlives the daemon: a
// decision is the same after a restart. Part of the ProcessFactsCache.
/// A process of one boot of this machine.
struct OptOut {
  std::string boot;           ///< the kernel's random id of it
  pid_t pid = 0;              ///< as the daemon counts
  std::uint64_t started = 0;  ///< as ProcDir::start_time() has it
  friend bool operator==(const OptOut&, const OptOut&) = default;
};

class OptOuts {
 public:
  static constexpr std::size_t kMost = 4096;

  /// @param boot see OptOut
  explicit OptOuts(std::string boot) : boot_(std::move(boot)) {}

  void set_observer(std::function<void()> on_change) { on_change_ = std::move(on_change); }
  /// What all() gave in the life before. What is of another boot is forgotten.
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
  std::string command;                 ///< its words, apart by single spaces
  std::optional<names::Guess> keeper;  ///< the container that it keeps as its command line says
  std::string replaces;                ///< as names::name_to_replace has it
  names::Guess told;                   ///< of the environment
  bool opted_out = false;              ///< the environment says PORTFWD=off
  /// Its environment cannot be known any more: its title is in its place.
  bool environment_lost = false;

  friend bool operator==(const ProcessFacts&, const ProcessFacts&) = default;
};

/// @param cmdline, environ as /proc has them; no environ: it cannot be read
/// @param host_name the host's own, which is no container's name
/// @param before what was known; kept where the texts do not tell
[[nodiscard]] ProcessFacts parse_process_facts(std::string_view cmdline,
                                               std::optional<std::string_view> environ,
                                               std::string_view host_name,
                                               const ProcessFacts& before = {});

/// The words of a command line as /proc has it, apart by single spaces.
[[nodiscard]] std::string command_text(std::string_view cmdline);

class ProcessFactsCache {
 public:
  /// Borrows both. @param host_name as above
  ProcessFactsCache(Reader& reader, const ProcDir& proc);

  /// Hears of each process whose facts are there, or are others now; not from within a call.
  using OnFacts = std::function<void(pid_t)>;
  void set_observer(OnFacts on_facts) { on_facts_ = std::move(on_facts); }

  /// @return null while they are being read; without any fact when they cannot be
  const ProcessFacts* of(pid_t pid);
  /// The process may say something else by now: of() reads it once more.
  void renew(pid_t pid);

  using Done = std::move_only_function<void(const ProcessFacts&)>;
  /// Reads them now. @param by a reader that may read the process; null: the ordinary one
  [[nodiscard]] Reader::Call read(pid_t pid, Reader* by, Done done);

  /// Who said PORTFWD=off.
  [[nodiscard]] OptOuts& opt_outs() { return opt_outs_; }
  /// The process is opted out though it does not say so itself (any more).
  void note_opt_out(pid_t pid) { opt_outs_.add(pid, entry_of(pid).started); }

  /// Forgets all processes of which `is_there` is not true.
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
  /// @return whether these are other facts
  bool take(pid_t pid, Entry& entry, const Result<Reader::Texts>& texts);

  Reader& reader_;
  const ProcDir& proc_;
  std::string host_name_;
  OptOuts opt_outs_;
  std::map<pid_t, Entry> entries_;
  OnFacts on_facts_ = [](pid_t) {};
};

}  // namespace portfwd
