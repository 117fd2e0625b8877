// A connection of two Unix sockets whose messages must stay whole: records of SOCK_SEQPACKET, or
// bytes with descriptors. Owned by the Server. It has the same ends as a Relay, without those that
// only TCP has: each direction closes separately, and a reset ends both.
//
// A record is relayed as one record, at most kLargestRecord bytes; a larger one would be cut, and
// resets the connection. A stream is never merged across a byte that carries descriptors: they
// arrive with that byte. A message whose descriptors cannot be relayed, because they are not wanted
// or a limit was reached, resets the connection too: nothing is lost without a sign.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <ctime>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "relay/connection.h"

namespace portfwd::relay_process {

inline constexpr std::size_t kLargestRecord = 256 * 1024;  ///< bytes
inline constexpr std::size_t kMostFds = 253;               ///< SCM_MAX_FD

/// One message as it is received. Shared by all pumps: its contents are valid during one call.
struct MessageBuffer {
  std::array<std::byte, kLargestRecord> bytes;
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(timespec)) +
                                             CMSG_SPACE(kMostFds * sizeof(int))> control;
};

// One direction of a MessageRelay, as Pump is of a Relay.
class MessagePump {
 public:
  enum class State : std::uint8_t {
    NeedsInput,
    NeedsOutput,  ///< a message waits until the sink accepts it
    Finished,     ///< the source has ended and everything was delivered
    SinkBroken,   ///< the sink no longer accepts messages
    Broken,       ///< the source was reset, or a message cannot be relayed whole
  };
  static constexpr std::size_t kBytesPerTurn = 1024 * 1024;

  struct Sockets {
    MessageBuffer& buffer;
    int source;
    int sink;
    std::uint64_t& delivered;  ///< bytes that the sink accepts are added
  };

  /// @param records the sockets are of SOCK_SEQPACKET, else of SOCK_STREAM
  /// @param pass_fds relays descriptors; otherwise a message that carries some is Broken
  MessagePump(bool records, bool pass_fds) : records_(records), pass_fds_(pass_fds) {}

  [[nodiscard]] State run(const Sockets& sockets);
  /// Discards the message that waits.
  void drop() { held_.reset(); }
  /// Whether a message had descriptors that are not wanted.
  [[nodiscard]] bool has_refused() const { return refused_; }

 private:
  struct Message {
    std::span<const std::byte> bytes;
    std::vector<UniqueFd> fds;
  };
  struct Held {
    std::vector<std::byte> bytes;
    std::size_t sent = 0;
    std::vector<UniqueFd> fds;
  };
  enum class Step : std::uint8_t { Moved, WouldBlock, End, Failed };

  [[nodiscard]] Step receive(const Sockets& sockets, Message& message);
  [[nodiscard]] State send_or_hold(const Sockets& sockets, Message message);
  [[nodiscard]] State send_held(const Sockets& sockets);

  bool records_;
  bool pass_fds_;
  bool refused_ = false;
  std::unique_ptr<Held> held_;
};

class MessageRelay final : public Retirable, private IoHandler {
 public:
  /// @param buffer, counters borrowed @param client, target connected Unix sockets of one type,
  /// non-blocking
  /// @param on_over the last call: both sockets are closed. May retire the relay, must not destroy
  /// it.
  MessageRelay(EventLoop& loop, MessageBuffer& buffer, Counters& counters, bool pass_fds,
               std::move_only_function<void()> on_over, UniqueFd client, UniqueFd target);
  ~MessageRelay() override { abort(); }

  /// Must be called once. on_over may be called from within. Fails with the error of epoll_ctl(2);
  /// then the relay must be aborted.
  [[nodiscard]] Result<void> start();
  /// Closes both sides at once, without a call of on_over. A side with unread input is reset.
  void abort();
  [[nodiscard]] bool has_refused_descriptors() const {
    return client_.pump.has_refused() || target_.pump.has_refused();
  }

 private:
  using State = MessagePump::State;
  /// One side, and the pump that moves its input to the other side.
  struct End {
    End(EventLoop& loop, UniqueFd socket, IoHandler& handler, bool records, bool pass_fds)
        : fd(std::move(socket)), source(loop, fd.get(), handler), pump(records, pass_fds) {}
    UniqueFd fd;
    IoSource source;
    MessagePump pump;
    State state = State::NeedsInput;  ///< never SinkBroken
  };

  void on_io(IoSource& source, std::uint32_t events) override;
  void advance(End& from, End& to);
  [[nodiscard]] bool end_if_done();
  [[nodiscard]] Result<void> watch_both();
  static std::uint32_t interest(const End& end, const End& other);

  MessageBuffer& buffer_;
  Counters& counters_;
  std::move_only_function<void()> on_over_;
  bool records_;
  End client_;
  End target_;
};

}  // namespace portfwd::relay_process
