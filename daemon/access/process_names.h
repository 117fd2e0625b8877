// Search for the programs behind listeners: a process of their network namespace has the socket
// open. Owned by main. Every question goes to a reader process and is answered later: nothing here
// blocks.
//
// Processes that have started since the last scan of /proc are searched as well. Where the sockets
// belong to another user of the container (`--user`, postgres), whose descriptors only root of that
// user namespace may list, a reader in there is asked; it ends a minute after its last use.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/shared_text.h"
#include "discover/discovery.h"
#include "discover/process_facts.h"
#include "kernel/proc_dir.h"

namespace portfwd {

/// What is known of the process behind a listener.
struct ListeningProgram {
  pid_t pid = 0;
  SharedText name;     ///< comm, fit to be shown
  SharedText command;  ///< as Listener::command
  bool opted_out = false;
};

class ProcessNames {
 public:
  using Programs = std::map<std::uint32_t, ListeningProgram>;  ///< by the socket's inode
  using Done = std::move_only_function<void(Programs)>;
  /// A search under way; destroying it cancels it: the callback is not called.
  using Search = std::shared_ptr<void>;

  /// Finds the processes of the namespace that have these sockets open; those that cannot be found
  /// are left out. @param done not called from within this function
  [[nodiscard]] virtual Search find(std::uint64_t netns, std::vector<std::uint32_t> inodes,
                                    Done done) = 0;

 protected:
  ~ProcessNames() = default;
};

class FoundProcessNames final : public ProcessNames {
 public:
  struct Parts {  ///< all borrowed
    EventLoop& loop;
    const ProcDir& proc;
    Reader& reader;
    ProcessFactsCache& facts;
    Discovery& discovery;
    std::string program;  ///< path of portfwd-broker, for readers in other user namespaces
  };
  explicit FoundProcessNames(const Parts& parts);

  [[nodiscard]] Search find(std::uint64_t netns, std::vector<std::uint32_t> inodes,
                            Done done) override;
  /// Those in other user namespaces that are alive now.
  [[nodiscard]] std::vector<const Reader*> readers() const;

  static constexpr Duration kReaderIdle = std::chrono::minutes(1);
  static constexpr std::size_t kMostReaders = 16;

 private:
  class Task;
  struct Inside {
    std::unique_ptr<Reader> reader;
    TimePoint used{};
  };

  [[nodiscard]] Reader* reader_inside(std::uint64_t netns);
  void end_idle_readers();
  void end(std::unique_ptr<Reader> reader);

  Parts parts_;
  std::map<std::uint64_t, Inside> inside_;       ///< by inode of the user namespace
  std::vector<std::unique_ptr<Reader>> ending_;  ///< until their processes have been waited for
  Timer idle_;
};

}  // namespace portfwd
