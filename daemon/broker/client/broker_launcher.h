// Start and reaping of broker processes. SpawnLauncher starts the installed program; a
// HelperLauncher has an engine start it. The client of a broker knows only the socket.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace portfwd {

struct BrokerProcess {
  pid_t pid = 0;    ///< 0 when it is not a child of the daemon
  UniqueFd pidfd;   ///< invalid when it is not a child of the daemon
  UniqueFd socket;  ///< the daemon's end, close-on-exec
};

class BrokerLauncher {
 public:
  virtual ~BrokerLauncher() = default;
  [[nodiscard]] virtual Result<BrokerProcess> launch() = 0;
  /// Time for its first reply, from the launch.
  [[nodiscard]] virtual Duration join_timeout() const { return std::chrono::seconds(2); }
  /// Ends a process, whatever its state. Does not wait.
  virtual void discard(BrokerProcess process) = 0;
};

/// A child that was killed, until it has exited and was reaped. A process can stay in this state
/// for long: SIGKILL does not end a close(2) that waits for a file system.
class DyingChild final : public Retirable, private IoHandler {
 public:
  using Done = std::move_only_function<void(pid_t reaped)>;
  /// Kills the child.
  /// @param done called once, from the loop; must retire this object
  DyingChild(EventLoop& loop, BrokerProcess process, Done done);

  /// Reaps the child if it has exited. @return false while it still runs
  [[nodiscard]] bool reap();
  [[nodiscard]] Result<void> watch() { return source_.watch(EPOLLIN); }
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  void on_io(IoSource& source, std::uint32_t events) override;

  Done done_;
  pid_t pid_;
  UniqueFd pidfd_;
  IoSource source_;
};

/// Starts a static program and reaps it from the loop. The child gets its socket and no other
/// descriptor, an empty environment, no ignored signals, and a process group of its own: Ctrl-C at
/// the daemon's terminal must not end it while connections drain.
class SpawnLauncher final : public BrokerLauncher {
 public:
  enum class Ending {
    OnSignal,  ///< no signal is blocked
    WhenDone,  ///< SIGTERM, which systemd sends to all processes of the unit, SIGINT and
               ///< SIGHUP are blocked
  };
  /// @param program path of portfwd-broker or portfwd-relay
  /// @param argument its only argument, or ""
  SpawnLauncher(EventLoop& loop, std::string program, std::string argument = {},
                Ending ending = Ending::OnSignal);
  ~SpawnLauncher() override;

  [[nodiscard]] Result<BrokerProcess> launch() override;
  void discard(BrokerProcess process) override;
  /// Number of discarded processes that have not exited yet.
  [[nodiscard]] std::size_t dying() const { return dying_.size(); }

 private:
  EventLoop& loop_;
  std::string program_;
  std::string argument_;
  Ending ending_;
  std::vector<std::unique_ptr<DyingChild>> dying_;
};

// Messages with descriptors over a SOCK_SEQPACKET socket. Never block. The caller owns the socket;
// the result owns the descriptors received.

/// Sends one message with copies of the descriptors.
/// @param fds at most 253
/// @return EAGAIN: the peer does not read fast enough. Source: unix(7).
Result<void> send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds);

struct ReceivedMessage {
  enum class Outcome : std::uint8_t { Message, Nothing, End };
  Outcome outcome = Outcome::Nothing;
  std::size_t size = 0;        ///< bytes stored
  bool bytes_cut_off = false;  ///< the message was longer than the buffer
  bool fds_cut_off = false;    ///< descriptors were lost: RLIMIT_NOFILE is reached
  std::vector<UniqueFd> fds;   ///< close-on-exec
};
/// Receives one message and up to SCM_MAX_FD descriptors. An empty message counts as the end, since
/// the kernel reports both alike.
[[nodiscard]] ReceivedMessage receive_with_fds(int socket, std::span<std::byte> buffer);

}  // namespace portfwd
