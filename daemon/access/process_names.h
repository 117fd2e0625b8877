// Search for the programs behind listeners: a process of their network namespace has the socket
// open. Owned by main. A reader process does the search and answers later: nothing here blocks.
//
// Processes that have started since the last scan of /proc are searched as well. Where the sockets
// belong to another user of the container (`--user`, postgres), whose descriptors only root of that
// user namespace may list, a reader in that namespace does it; it ends a minute after its last use.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "access/listener.h"
#include "base/text.h"
#include "discover/discovery.h"
#include "discover/process_facts.h"
#include "event/event_loop.h"
#include "kernel/procfs.h"

namespace portfwd {

/// What is known of the process behind a listener.
struct ListeningProgram {
  pid_t pid = 0;
  SharedText name;     ///< comm, printable
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
  /// Readers in other user namespaces that run now.
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

// Programs of the listeners of one network namespace, kept for the life of each socket. Owned by
// the NetnsAccess. A new listener is withheld until its program is known, since the program's
// environment may exclude it from forwarding, but at most for kLongestWait, since its process may
// be invisible. The search is repeated with growing pauses.
//
// When the named process ends while its socket lives on, another process has it: a worker that
// outlives its parent, or a server started by socket activation. The socket is looked up again, and
// keeps the old name until then.
class ListenerNames {
 public:
  static constexpr Duration kLongestWait = std::chrono::milliseconds(100);
  static constexpr Duration kFirstPause = std::chrono::milliseconds(20);
  static constexpr Duration kLongestPause = std::chrono::seconds(30);
  /// A container with many descriptors that opens ports all the time keeps the reader busy for a
  /// second, and from then on for a tenth of the time.
  static constexpr Duration kMostCredit = std::chrono::seconds(1);
  static constexpr int kShare = 10;
  static constexpr std::size_t kMostWatched = 64;  ///< processes whose end is noticed

  /// @param names borrowed @param on_change called when name() returns something else than before
  ListenerNames(EventLoop& loop, ProcessNames& names, std::uint64_t netns,
                std::function<void()> on_change);
  ~ListenerNames();

  /// @param now all listeners that exist @return those that may be shown, with their programs, in
  /// the same order
  [[nodiscard]] std::vector<Listener> name(std::vector<Listener> now);
  /// Whether none is withheld for its program.
  [[nodiscard]] bool settled() const;

 private:
  class WatchedProcess;
  /// The socket's inode, which each source of listeners has, and its address; its cookie where
  /// there is no inode.
  using Key = std::tuple<std::uint64_t, std::uint32_t, Address>;
  struct Known {
    ListeningProgram program;  ///< pid 0 while it is not known
    TimePoint shown_from{};
    TimePoint look_at = TimePoint::min();  ///< max() when there is nothing to search for
    Duration pause = kFirstPause;
    bool seen = false;
  };

  void search();
  void found(const ProcessNames::Programs& programs);
  void on_timer();
  void on_exit(pid_t pid);
  void watch_exit(pid_t pid);
  void arm();

  EventLoop& loop_;
  ProcessNames& names_;
  std::uint64_t netns_;
  std::function<void()> on_change_;
  std::map<Key, Known> known_;
  std::map<pid_t, std::unique_ptr<WatchedProcess>> watched_;
  ProcessNames::Search search_;
  TimePoint search_begun_{};
  Duration credit_ = kMostCredit;  ///< of time for searches; negative: none yet
  TimePoint next_search_ = TimePoint::min();
  Timer timer_;
};

}  // namespace portfwd
