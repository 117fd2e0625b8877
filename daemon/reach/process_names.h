// Names the programs behind listeners: some process of their namespace has the socket open. Owned
// by main; asked once for each new listener, for all that one look showed together.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "discover/discovery.h"
#include "kernel/proc_dir.h"
#include "watch/watcher.h"

namespace portfwd {

class ProcessNames {
 public:
  /// Fills in process, command and opted_out of those listeners of whom they can be known.
  /// @param listeners in the network namespace `netns`; not named so far
  virtual void name(std::uint64_t netns, std::span<Listener* const> listeners) = 0;
  /// The same for a new set. Who a socket's program was is kept for the socket's life, so only
  /// those that are not in `before` are looked for.
  void name_new(std::uint64_t netns, const std::vector<Listener>& before,
                std::vector<Listener>& now);

 protected:
  ~ProcessNames() = default;
};

class FoundProcessNames final : public ProcessNames {
 public:
  /// Both are borrowed.
  FoundProcessNames(const Discovery& discovery, const ProcDir& proc)
      : discovery_(discovery), proc_(proc) {}

  void name(std::uint64_t netns, std::span<Listener* const> listeners) override;

 private:
  const Discovery& discovery_;
  const ProcDir& proc_;
};

/// Fills in what the process tells: its name fit to be shown, its command line, its own wish.
void describe_process(const ProcDir& proc, pid_t pid, Listener& listener);

/// The words of a command line as /proc has it, apart by single spaces.
[[nodiscard]] std::string command_text(std::string_view cmdline);

}  // namespace portfwd
