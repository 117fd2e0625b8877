// How a broker comes to life and is buried. SpawnLauncher starts the installed program; an engine's
// helper container is another way, and a test's fake a third: the client sees a socket and no more.
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
  /// How long its first answer may take, from the launch.
  [[nodiscard]] virtual Duration patience() const { return std::chrono::seconds(2); }
  /// Ends it, whatever state it is in, and waits for nothing.
  virtual void discard(BrokerProcess process) = 0;
};

/// Starts the static program and reaps it from the loop. It gets its socket and no other
/// descriptor, an empty environment, no ignored signal, and a process group of its own:
/// a Ctrl-C at the daemon's terminal must not take it away while connections drain.
class SpawnLauncher final : public BrokerLauncher {
 public:
  enum class Ending {
    WhenAsked,  ///< no signal is blocked
    WhenDone,   ///< systemd asks every process of the unit to end: it finishes first
  };
  /// @param program path of portfwd-broker
  /// @param argument its only one, or ""
  SpawnLauncher(EventLoop& loop, std::string program, std::string argument = {},
                Ending ending = Ending::WhenAsked);
  ~SpawnLauncher() override;

  [[nodiscard]] Result<BrokerProcess> launch() override;
  void discard(BrokerProcess process) override;
  /// How many ended ones the kernel has not given back yet.
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
// socket; what arrives is owned by the result. It knows nothing of what the bytes mean.
/// @param fds copies of them go along, at most 253. EAGAIN when the peer does not keep up. Source:
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
/// Takes one message and up to SCM_MAX_FD descriptors. An empty message counts as the end, since
/// the kernel tells them apart for nobody.
[[nodiscard]] ReceivedMessage receive_with_fds(int socket, std::span<std::byte> buffer);

}  // namespace portfwd
