// Search for the programs of listeners: the processes of their network namespace that have the
// sockets open. Owned by main. A reader process does the search and answers later, so nothing here
// blocks.
//
// A search covers the known processes of the namespace, then those that have started since the last
// scan of /proc. Sockets may belong to another user of the container (`--user`, postgres), whose
// descriptors only root of that user namespace may list: a reader in that user namespace searches
// for these. Such a reader ends one to two minutes after its last use.
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

/// The process that has a listener open, as far as it is known.
struct ListeningProgram {
  pid_t pid = 0;
  SharedText name;     ///< comm, printable
  SharedText command;  ///< as Listener::command
  bool opted_out = false;
  std::uint64_t cgroup_id = 0;  ///< of the process; 0 when unknown
};

class ProcessNames {
 public:
  using Programs = std::map<std::uint32_t, ListeningProgram>;  ///< by the socket's inode
  using Done = std::move_only_function<void(Programs)>;
  /// A search in progress. Destroying it cancels it: the callback is not called.
  using Search = std::shared_ptr<void>;

  /// Finds the processes of the namespace that have these sockets open. Sockets without a known
  /// process are left out of the result.
  /// @param done not called from within this function
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
  /// Readers in other user namespaces that have not ended yet.
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
  std::vector<std::unique_ptr<Reader>> ending_;  ///< until their processes are reaped
  Timer idle_;
};

// Programs of the listeners of one network namespace, cached for the lifetime of each socket. Owned
// by the NetnsAccess. A new listener is withheld until its program is known, since the program's
// environment may exclude it from forwarding, but for at most kLongestWait, since its process may
// be invisible. The search is repeated with growing pauses.
//
// When the named process ends while its socket lives on, another process has the socket: a worker
// that outlives its parent, or a server started by socket activation. The socket is looked up
// again, and keeps the old name until then.
class ListenerNames {
 public:
  static constexpr Duration kLongestWait = std::chrono::milliseconds(100);
  static constexpr Duration kFirstPause = std::chrono::milliseconds(20);
  static constexpr Duration kLongestPause = std::chrono::seconds(30);
  /// Limits of the time spent on searches. A container that has many descriptors and opens ports
  /// all the time keeps the reader busy for kMostCredit, and from then on for one part in kShare of
  /// the time.
  static constexpr Duration kMostCredit = std::chrono::seconds(1);
  static constexpr int kShare = 10;
  static constexpr std::size_t kMostWatched = 64;  ///< processes whose exit is watched

  /// @param names borrowed
  /// @param on_change called when name() would return another result than before
  ListenerNames(EventLoop& loop, ProcessNames& names, std::uint64_t netns,
                std::function<void()> on_change);
  ~ListenerNames();

  /// Fills in the programs, and the cgroup of a program where that of the socket is not known.
  /// @param now all listeners that exist
  /// @return the listeners that may be reported, in the same order
  [[nodiscard]] std::vector<Listener> name(std::vector<Listener> now);
  /// Whether no listener is withheld because its program is unknown.
  [[nodiscard]] bool all_reported() const;

 private:
  class WatchedProcess;
  /// (Cookie, inode, address) of the socket. The cookie is used only where there is no inode, and
  /// is 0 otherwise, since not every source of listeners has it.
  using Key = std::tuple<std::uint64_t, std::uint32_t, Address>;
  struct Known {
    ListeningProgram program;  ///< pid 0 while unknown
    TimePoint shown_from{};
    TimePoint search_at = TimePoint::min();  ///< max() while no search is needed
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
  Duration credit_ = kMostCredit;  ///< time that searches may take; negative: overdrawn
  TimePoint next_search_ = TimePoint::min();
  Timer timer_;
};

}  // namespace portfwd
