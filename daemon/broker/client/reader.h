// The daemon's side of one reader: requests texts whose reading may block forever, and calls back
// with them. Owned by main, one for processes and one for files, so that a file system that hangs
// does not delay names of programs; and by FoundProcessNames, for other user namespaces. It knows
// the protocol, but not what the texts are for.
//
// Replies come in the order of the requests, so the reader works on the first request in flight. If
// its reply is late the reader is killed. If the request has a subject, only that request fails,
// its subject is not read again, and a new reader gets the other requests; if it has none (Owners,
// Join), all requests fail. A reader in a system call that no signal interrupts (a FUSE request
// that its server has received) stays until the call returns. Nothing waits for it, but while
// kMostStuck of them exist every request fails.
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
    std::string command;                     ///< first 4 KiB of /proc/PID/cmdline
    std::optional<std::string> environment;  ///< first 60 KiB of environ; none: unreadable
  };
  using Owners = std::vector<broker::SocketOwner>;
  template <class T>
  using Done = std::move_only_function<void(Result<T>)>;

  /// A request in progress. Destroying it cancels the request: the callback is not called.
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
  /// Deadline for kStrictPeriod after a reply was late: a user who can make one process hang can
  /// make many hang.
  static constexpr Duration kStrictDeadline = std::chrono::milliseconds(100);
  static constexpr Duration kStrictPeriod = std::chrono::minutes(1);
  static constexpr std::size_t kMostStuck = 4;
  /// Limit of subjects that are not read again; the oldest are forgotten.
  static constexpr std::size_t kMostTimedOut = 4096;

  struct Options {
    std::string program;  ///< path of portfwd-broker
    broker::Purpose purpose = broker::Purpose::Processes;
    UniqueFd userns{};             ///< the user namespace to join; invalid: the daemon's own
    std::string folder = "/proc";  ///< where the processes are
  };
  /// The loop must outlive it.
  Reader(EventLoop& loop, Options options);
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader();

  /// Reads /proc/PID/cmdline and environ. Errors: ETIMEDOUT: the process did not answer, now or
  /// earlier; EACCES: it belongs to another user; EBUSY: too many readers hang, or too many
  /// requests wait; ECONNRESET: the reader died or pauses after a failure.
  /// @param started start time of the process, as ProcDir::start_time()
  /// @param done never called from within this function; so for all functions here
  [[nodiscard]] Call read_texts(pid_t pid, std::uint64_t started, Done<Texts> done);
  /// Finds for each of the sockets the first of the processes that has it open. Only the last
  /// broker::kMostPids processes and the first broker::kMostInodes sockets are examined.
  [[nodiscard]] Call find_owners(std::span<const pid_t> pids, std::span<const std::uint32_t> inodes,
                                 Done<Owners> done);
  struct File {
    std::string folder;  ///< absolute; follows links
    std::string path;    ///< below the folder; follows links that stay below it
    uid_t owner = 0;
    std::uint32_t limit = 0;  ///< bytes
  };
  /// Reads a regular file. Errors: those of openat2(2) (EXDEV: a link leads out of the folder);
  /// EINVAL: not a regular file; EACCES: it belongs to another user; EFBIG: longer than the limit;
  /// ETIMEDOUT, EBUSY and ECONNRESET as above.
  [[nodiscard]] Call read_file(const File& file, Done<std::string> done);

  /// Waits until all requests are answered, for at most `limit`. For the start of the daemon, when
  /// nothing else is served yet.
  void wait(Duration limit);

  /// Ends the process, unless requests are in progress. The next request starts another one. If
  /// this object is destroyed before is_stopped(), a child remains that is not reaped.
  void stop_if_idle();
  [[nodiscard]] bool is_stopped() const { return !process_ && launcher_.dying() == 0; }

  [[nodiscard]] std::size_t waiting() const { return calls_.size(); }
  [[nodiscard]] std::size_t stuck() const { return launcher_.dying(); }
  [[nodiscard]] std::uint64_t timeouts() const { return timeouts_; }  ///< late replies so far
  /// The last `most` subjects that are not read again, for display.
  [[nodiscard]] std::vector<std::string> timed_out_subjects(std::size_t most) const;
  [[nodiscard]] pid_t pid() const { return process_ ? process_->process.pid : 0; }

 private:
  struct QueuedRead {
    broker::ReadRequest request;
    std::string payload;
    std::string subject;  ///< not read again if the reply is late; "" for Owners and Join
    std::weak_ptr<Call::Raw> done;
    std::string answer;  ///< received so far
  };
  struct Running {
    Running(EventLoop& loop, BrokerProcess started, IoHandler& handler)
        : process(std::move(started)), source(loop, process.socket.get(), handler) {}
    BrokerProcess process;
    IoSource source;
  };

  [[nodiscard]] Call enqueue(QueuedRead queued, Call::Raw done);
  void on_io(IoSource& source, std::uint32_t events) override;
  void work();
  [[nodiscard]] Result<void> start();
  [[nodiscard]] Result<void> send_waiting();
  [[nodiscard]] bool receive_one();
  void finish_first(Result<std::string> result, const broker::ReadReply& reply);
  void on_timeout();
  void exclude_subject(const std::string& subject);
  [[nodiscard]] std::string text_of(const std::string& subject) const;
  void fail_reader(Error error);
  void end_process();
  void arm_deadline();

  EventLoop& loop_;
  SpawnLauncher launcher_;
  const Options options_;
  std::optional<Running> process_;
  std::deque<QueuedRead> calls_;  ///< the first in_flight_ of them have been sent
  std::size_t in_flight_ = 0;
  std::uint32_t last_id_ = 0;
  std::set<std::string, std::less<>> timed_out_;
  std::deque<std::string> timed_out_in_order_;
  std::uint64_t timeouts_ = 0;
  TimePoint strict_until_ = TimePoint::min();
  Duration pause_{};  ///< before the next start; 0 since the last success
  TimePoint not_before_ = TimePoint::min();
  Timer work_;
  Timer deadline_;
};

}  // namespace portfwd
