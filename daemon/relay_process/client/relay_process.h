// The daemon's side of portfwd-relay: hands connections whose other end may be a container's to a
// process that relays them, and that may block. The daemon itself never reads, splices or closes
// such a socket as its last owner; protocol.h says how.
//
// A RelayProcess is what relays the connections of one container. It starts a process when it has
// something to hand over, and ends it when it has been idle for kIdle. What it hands over waits in
// a queue while the process does not run or has kMostUnaccepted messages to accept. A process that
// accepts nothing for kStuckAfter is *stuck*: it is killed, its connections end as failed, and what
// is in the queue goes to another process. A stuck process may not end even then, since SIGKILL
// does not end a close(2) that waits for a file system; with kMostStuck of these, everything of the
// container waits.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "broker/client/broker_launcher.h"
#include "event/event_loop.h"
#include "relay/connection.h"
#include "relay/relay.h"
#include "relay_process/protocol.h"

namespace portfwd {

class RelayProcess;
class RelayProcesses;

/// A connection that a RelayProcess has. Its destruction resets the connection.
class HandedRelay final : public RelayedConnection {
 public:
  HandedRelay(std::shared_ptr<RelayProcess> process, RelayGroup& group, std::uint32_t id);
  HandedRelay(const HandedRelay&) = delete;
  HandedRelay& operator=(const HandedRelay&) = delete;
  ~HandedRelay() override { abort(); }

  /// It was handed over already.
  [[nodiscard]] Result<void> start() override { return {}; }
  void abort() override;
  [[nodiscard]] std::optional<RelayRecord> save() override { return std::nullopt; }

 private:
  friend class RelayProcess;
  std::shared_ptr<RelayProcess> process_;  ///< null when it is over
  RelayGroup& group_;
  std::uint32_t id_;
};

class RelayProcess final : public Retirable,
                           public Carrier,
                           public std::enable_shared_from_this<RelayProcess>,
                           private IoHandler,
                           private WaitHook {
 public:
  static constexpr Duration kIdle = std::chrono::seconds(1);
  static constexpr Duration kStuckAfter = std::chrono::seconds(2);
  static constexpr Duration kShortestPause = std::chrono::milliseconds(10);
  static constexpr Duration kLongestPause = std::chrono::seconds(1);
  /// Messages with descriptors under way. Descriptors under way count for all programs of the user.
  static constexpr std::size_t kMostUnaccepted = 64;
  static constexpr std::size_t kMostStuck = 4;

  /// @param owner, loop borrowed @param key of the container, see RelayProcesses
  RelayProcess(RelayProcesses& owner, EventLoop& loop, std::string key);
  RelayProcess(const RelayProcess&) = delete;
  RelayProcess& operator=(const RelayProcess&) = delete;
  ~RelayProcess() override;

  /// The sockets are streams of any family, or two Unix sockets of SOCK_SEQPACKET. For
  /// SO_PASSRIGHTS see may_carry_descriptors() in server.cc: with the option off from before they
  /// were connected, bulk data of Unix sockets is spliced. The relay's end is never reported from
  /// within.
  [[nodiscard]] std::unique_ptr<RelayedConnection> carry(RelayGroup& group, UniqueFd client,
                                                         UniqueFd target,
                                                         const CarryOptions& options) override;
  void discard(UniqueFd socket) override;

  [[nodiscard]] const std::string& key() const { return key_; }
  /// Of the process that runs now; 0 when there is none.
  [[nodiscard]] pid_t pid() const { return process_ ? process_->process.pid : 0; }
  /// Whether no connection and no socket is left that was handed over.
  [[nodiscard]] bool is_idle() const;

 private:
  friend class HandedRelay;
  friend class RelayProcesses;
  struct Outgoing {
    relay_process::Request request;
    std::vector<UniqueFd> fds;
  };
  enum class Stage : std::uint8_t {
    Queued,
    Sent,
    Lost,  ///< its process has ended; on_over is about to be called
  };
  struct Known {
    HandedRelay* relay = nullptr;  ///< null: aborted, and its end was not reported yet
    std::uint32_t group = 0;
    Stage stage = Stage::Queued;
  };
  struct Group {
    RelayGroup* group = nullptr;
    std::size_t relays = 0;
  };
  struct Running {
    Running(EventLoop& loop, BrokerProcess started, IoHandler& handler)
        : process(std::move(started)), source(loop, process.socket.get(), handler) {}
    BrokerProcess process;
    IoSource source;
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  /// Sends what this turn has put into the queue, with one Released for all.
  void before_wait() override;
  void work();
  [[nodiscard]] bool start();
  void send_waiting();
  [[nodiscard]] bool send_first();
  [[nodiscard]] bool send_released();
  [[nodiscard]] bool send(const relay_process::Request& request, std::span<const UniqueFd> fds);
  [[nodiscard]] bool receive_one();
  [[nodiscard]] bool handle(const relay_process::Report& report);
  [[nodiscard]] bool on_accepted();
  [[nodiscard]] bool on_ended(const relay_process::Report& report);
  void count_bytes(const relay_process::Report& report);
  void on_failure(Error error);
  void abort(HandedRelay& relay);
  void enqueue(relay_process::Request request, std::vector<UniqueFd> fds);
  [[nodiscard]] std::uint32_t join_group(RelayGroup& group);
  void leave_group(std::uint32_t id);
  void finish(std::map<std::uint32_t, Known>::iterator over);
  void end_process();
  void update_idle();
  void keep_alive_until_batch_ends();

  RelayProcesses& owner_;
  EventLoop& loop_;
  std::string key_;
  std::optional<Running> process_;
  std::deque<Outgoing> queue_;
  std::map<std::uint32_t, Known> relays_;  ///< by id, whether in the queue or sent
  std::map<std::uint32_t, Group> groups_;  ///< those with relays that were not aborted
  std::uint32_t last_id_ = 0;              ///< of a relay
  std::uint32_t last_group_ = 0;
  std::size_t unaccepted_ = 0;  ///< messages with descriptors that were sent
  bool is_new_ = false;         ///< something was put into the queue in this turn
  bool socket_full_ = false;
  bool release_due_ =
      false;             ///< Released must be sent before any other message without descriptors
  bool drains_ = false;  ///< has no owner but the RelayProcesses, and ends when idle
  Duration pause_{};     ///< before the next attempt; 0 since the last success
  TimePoint next_line_ = TimePoint::min();  ///< no warning is logged before
  Timer work_;
  Timer stuck_;
  Timer idle_;
};

// The relay processes of all containers. Owned by main, outlives what uses it. A RelayProcess that
// is released while sockets are left in its queue drains here.
class RelayProcesses final : public UnixCarriers {
 public:
  /// After that long a process that was killed and has not ended counts as stuck.
  static constexpr Duration kUnkillableAfter = std::chrono::seconds(1);

  /// @param launcher starts portfwd-relay
  RelayProcesses(EventLoop& loop, std::shared_ptr<BrokerLauncher> launcher);
  RelayProcesses(const RelayProcesses&) = delete;
  RelayProcesses& operator=(const RelayProcesses&) = delete;
  ~RelayProcesses();

  /// What relays the connections of one container.
  /// @param key any text that names the container, and no other, while it lives
  [[nodiscard]] std::shared_ptr<RelayProcess> process_of(const std::string& key);
  [[nodiscard]] std::shared_ptr<Carrier> of(const std::string& key) override {
    return process_of(key);
  }

  /// Processes that run now, without those that were killed.
  [[nodiscard]] std::vector<pid_t> pids() const;
  /// Processes that were killed and do not end, for `status`.
  [[nodiscard]] std::vector<pid_t> stuck() const;

 private:
  friend class RelayProcess;
  struct Killed {
    std::string key;
    TimePoint since{};
    std::unique_ptr<DyingChild> child;
  };

  void kill(const std::string& key, BrokerProcess process);
  [[nodiscard]] std::size_t killed(const std::string& key) const;
  void on_reaped(pid_t pid);
  void on_released(std::unique_ptr<RelayProcess> process);
  void on_drained(RelayProcess& process);

  EventLoop& loop_;
  std::shared_ptr<BrokerLauncher> launcher_;
  std::map<std::string, std::weak_ptr<RelayProcess>> processes_;  ///< those in use
  std::vector<Killed> killed_;
  std::vector<std::unique_ptr<RelayProcess>> draining_;  ///< below killed_, which they use
};

}  // namespace portfwd
