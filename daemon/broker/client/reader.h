// The daemon's side of one reader: requests texts whose reading may block for ever, and calls back
// with them. Owned by main, one for processes and one for files, so that a file system that hangs
// does not delay names of programs; and by FoundProcessNames, for other user namespaces. It knows
// the protocol, but not what the texts are for.
//
// Replies come in the order of the requests, so the first in flight is being read. When a reply is
// late the reader is killed, the first request fails and its subject is never read again, and a new
// reader gets the others. A reader in a system call that no signal interrupts (a FUSE request that
// its server has received) stays until that returns. Nothing waits for it, but there may be
// kMostStuck of them at most: then every request fails until one has exited.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "broker/client/broker_launcher.h"
#include "broker/protocol.h"
#include "event/event_loop.h"

namespace portfwd {

class Reader final : private IoHandler {
 public:
  struct Texts {
    std::string command;                     ///< as /proc/PID/cmdline has it, the first 4 KiB
    std::optional<std::string> environment;  ///< likewise environ, the first 60 KiB; none: refused
  };
  using Owners = std::vector<broker::SocketOwner>;
  template <class T>
  using Done = std::move_only_function<void(Result<T>)>;

  /// A request in progress. Destroying it cancels it: the callback is not called.
  class Call {
   public:
    Call() = default;
    [[nodiscard]] bool pending() const { return done_ != nullptr && *done_ != nullptr; }

   private:
    friend class Reader;
    using Raw = std::move_only_function<void(Result<std::string>, const broker::ReadReply&)>;
    explicit Call(std::shared_ptr<Raw> done) : done_(std::move(done)) {}
    std::shared_ptr<Raw> done_;
  };

  static constexpr Duration kDeadline = std::chrono::seconds(1);
  /// The deadline for kWary after one was missed: a user who can make one process hang can make
  /// many hang.
  static constexpr Duration kWaryDeadline = std::chrono::milliseconds(100);
  static constexpr Duration kWary = std::chrono::minutes(1);
  static constexpr std::size_t kMostStuck = 4;
  /// Subjects that are never read again; the oldest are forgotten.
  static constexpr std::size_t kMostSilent = 4096;

  struct Options {
    std::string program;  ///< path of portfwd-broker
    broker::Purpose purpose = broker::Purpose::Processes;
    UniqueFd userns{};             ///< the user namespace to join; invalid: stays in the daemon's
    std::string folder = "/proc";  ///< where processes are
  };
  /// The loop outlives it.
  Reader(EventLoop& loop, Options options);
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader();

  /// Reads /proc/PID/cmdline and environ. No `done` is called from within its call.
  /// @param started of the process, as ProcDir::start_time() has it
  /// ETIMEDOUT: the process did not answer, now or earlier; EACCES: it is another user's; EBUSY:
  /// too many readers hang.
  [[nodiscard]] Call read_texts(pid_t pid, std::uint64_t started, Done<Texts> done);
  /// Finds which of the processes has which of the sockets open; the first one of each counts.
  [[nodiscard]] Call find_owners(std::span<const pid_t> pids, std::span<const std::uint32_t> inodes,
                                 Done<Owners> done);
  struct File {
    std::string folder;  ///< absolute; links are followed
    std::string path;    ///< below it; links are followed that stay below it
    uid_t owner = 0;
    std::uint32_t limit = 0;  ///< bytes
  };
  /// Reads a regular file. Besides what openat2(2) says (EXDEV: a link leads out of the folder):
  /// EINVAL: it is no regular file; EACCES: it is another user's; EFBIG; ETIMEDOUT and EBUSY as
  /// above.
  [[nodiscard]] Call read_file(const File& file, Done<std::string> done);

  /// Waits until all requests are answered, at most `limit`. For the start of the daemon, when
  /// nothing else is served yet.
  void wait(Duration limit);

  /// Ends its process unless requests are in progress; the next request starts another one. If it
  /// is destroyed before at_rest(), a child remains that is not reaped.
  void rest();
  [[nodiscard]] bool at_rest() const { return !process_ && launcher_.dying() == 0; }

  [[nodiscard]] std::size_t waiting() const { return calls_.size(); }
  [[nodiscard]] std::size_t stuck() const { return launcher_.dying(); }
  [[nodiscard]] std::uint64_t silences() const { return silences_; }  ///< so far
  /// The last subjects that are not read again, for display.
  [[nodiscard]] std::vector<std::string> silent(std::size_t most) const;
  [[nodiscard]] pid_t pid() const { return process_ ? process_->process.pid : 0; }

 private:
  struct Asked {
    broker::ReadRequest request;
    std::string payload;
    std::string subject;  ///< what is not read again when it is late; "" for Owners
    std::weak_ptr<Call::Raw> done;
    std::string answer;  ///< so far
  };
  struct Running {
    Running(EventLoop& loop, BrokerProcess started, IoHandler& handler)
        : process(std::move(started)), source(loop, process.socket.get(), handler) {}
    BrokerProcess process;
    IoSource source;
  };

  [[nodiscard]] Call ask(Asked asked, Call::Raw done);
  void on_io(IoSource& source, std::uint32_t events) override;
  void work();
  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> send_waiting();
  [[nodiscard]] bool receive_one();
  void finish_first(Result<std::string> result, const broker::ReadReply& reply);
  void on_silence();
  void remember(const std::string& subject);
  [[nodiscard]] std::string text_of(const std::string& subject) const;
  void lose_reader(Error error);
  void end_process();
  void arm_deadline();

  EventLoop& loop_;
  SpawnLauncher launcher_;
  const Options options_;
  std::optional<Running> process_;
  std::deque<Asked> calls_;  ///< the first in_flight_ of them are sent
  std::size_t in_flight_ = 0;
  std::uint32_t last_id_ = 0;
  std::set<std::string, std::less<>> silent_;
  std::deque<std::string> silent_in_order_;
  std::uint64_t silences_ = 0;
  TimePoint wary_until_ = TimePoint::min();
  Duration pause_{};  ///< before the next start; 0 without a failure
  TimePoint not_before_ = TimePoint::min();
  Timer work_;
  Timer deadline_;
};

}  // namespace portfwd
