// What all relays of the daemon share: the loop, one buffer for copying, the pipes, and the options
// of sockets. Owned by RelayParts, borrowed by the other classes of relay/. It knows no connection.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "event/event_loop.h"
#include "kernel/datagrams.h"
#include "kernel/stream.h"

namespace portfwd {

class RelayContext final : private WaitHook {
 public:
  static constexpr std::size_t kBufferSize = 64 * 1024;  ///< bytes

  explicit RelayContext(EventLoop& loop);
  RelayContext(const RelayContext&) = delete;
  RelayContext& operator=(const RelayContext&) = delete;
  ~RelayContext() { loop_.remove_hook(*this); }

  [[nodiscard]] EventLoop& loop() { return loop_; }
  [[nodiscard]] PipePool& pipes() { return pipes_; }
  /// Valid during one call only: bytes that must be kept must be copied out of it.
  [[nodiscard]] std::span<std::byte> buffer() { return *buffer_; }
  /// The receive buffers for datagrams, equally shared; allocated on first use.
  [[nodiscard]] DatagramReceiver& datagrams();

  /// Sets the options of a TCP socket: Nagle's algorithm off; urgent data in its place in the
  /// stream, as RFC 6093 requires, since it would be lost otherwise; and reno if the host's default
  /// is bbr, which costs a third of the throughput on loopback. Accepted sockets inherit them from
  /// their listener. Source: tcp(7), socket(7); platform test.
  void tune(int socket) const;

  /// Records that a pump has run. If bulk data and messages share a turn of the loop, the CPU is
  /// yielded at the end of the turn to the programs that wait for the messages. Otherwise the
  /// scheduler would let this thread run until its slice is over, since bulk data always has more
  /// to do.
  void note_moved(bool bulk) { (bulk ? bulk_moved_ : message_moved_) = true; }

  /// Count the relays that exist. When most of many relays have ended, free memory is returned to
  /// the system: the allocator alone keeps all memory below the last block that is in use.
  void add_relay();
  void remove_relay();

 private:
  /// Relays; with fewer, trimming costs more than it frees.
  static constexpr std::size_t kTrimThreshold = 512;

  void before_wait() override;

  EventLoop& loop_;
  std::unique_ptr<std::array<std::byte, kBufferSize>> buffer_;
  std::unique_ptr<DatagramReceiver> datagrams_;
  PipePool pipes_;
  std::size_t relays_ = 0;
  std::size_t most_relays_ = 0;  ///< most relays at a time since memory was last returned
  bool had_many_ = false;        ///< kTrimThreshold relays existed since there were last none
  bool prefer_reno_;             ///< read at construction
  bool bulk_moved_ = false;      ///< in this turn
  bool message_moved_ = false;   ///< in this turn
};

}  // namespace portfwd
