// Starts and reaps broker processes. SpawnLauncher starts the installed program; a HelperLauncher
// has an engine do so. The client of a broker knows its socket alone.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
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
  pid_t pid = 0;    ///< 0 when it is no child of ours
  UniqueFd pidfd;   ///< invalid when it is no child of ours
  UniqueFd socket;  ///< the daemon's end, close-on-exec
};

class BrokerLauncher {
 public:
  virtual ~BrokerLauncher() = default;
  [[nodiscard]] virtual Result<BrokerProcess> launch() = 0;
  /// How long its first reply may take, from the launch.
  [[nodiscard]] virtual Duration patience() const { return std::chrono::seconds(2); }
  /// Ends it, whatever its state. Does not wait.
  virtual void discard(BrokerProcess process) = 0;
};

/// Starts the static program and reaps it from the loop. It gets its socket and no other
/// descriptor, an empty environment, no ignored signal, and a process group of its own: a Ctrl-C at
/// the daemon's terminal must not end it while connections drain.
class SpawnLauncher final : public BrokerLauncher {
 public:
  enum class Ending {
    WhenAsked,  ///< no signal is blocked
    WhenDone,   ///< SIGTERM is blocked, which systemd sends to every process of the unit
  };
  /// @param program path of portfwd-broker
  /// @param argument its only one, or ""
  SpawnLauncher(EventLoop& loop, std::string program, std::string argument = {},
                Ending ending = Ending::WhenAsked);
  ~SpawnLauncher() override;

  [[nodiscard]] Result<BrokerProcess> launch() override;
  void discard(BrokerProcess process) override;
  /// How many discarded processes have not exited yet.
  [[nodiscard]] std::size_t dying() const { return dying_.size(); }

 private:
  class Dying;
  void reaped(Dying& child);

  EventLoop& loop_;
  std::string program_;
  std::string argument_;
  Ending ending_;
  std::vector<std::unique_ptr<Dying>> dying_;
};

// Messages with descriptors over a SOCK_SEQPACKET socket, never blocking. The caller owns the
// socket; the result owns what was received.

/// @param fds copies of them are sent, at most 253. EAGAIN when the peer does not keep up. Source:
/// unix(7).
Result<void> send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds);

struct ReceivedMessage {
  enum class Outcome : std::uint8_t { Message, Nothing, End };
  Outcome outcome = Outcome::Nothing;
  std::size_t size = 0;        ///< bytes stored
  bool bytes_cut_off = false;  ///< the message was longer than the buffer
  bool fds_cut_off = false;    ///< descriptors were lost: our RLIMIT_NOFILE is reached
  std::vector<UniqueFd> fds;   ///< close-on-exec
};
/// Receives one message and up to SCM_MAX_FD descriptors. An empty message counts as the end, since
/// the kernel reports both alike.
[[nodiscard]] ReceivedMessage receive_with_fds(int socket, std::span<std::byte> buffer);

}  // namespace portfwd
