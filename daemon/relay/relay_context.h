// What all relays of the daemon share: the loop, one buffer for copying, the pipes, and how sockets
// are set up. Owned by main, borrowed by everything in relay/. It knows no single connection.
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
  /// For the time of one call only: what must be kept is copied out of it.
  [[nodiscard]] std::span<std::byte> buffer() { return *buffer_; }
  /// The same for datagrams; made when they are first received.
  [[nodiscard]] DatagramReceiver& datagrams();

  /// Nagle off; urgent data in its place in the stream, as RFC 6093 has it, else it would be lost;
  /// and reno where the host's default is bbr: on loopback bbr costs a third of the throughput. On
  /// a listener it holds for what it accepts. Source: tcp(7), socket(7); platform test.
  void tune(int socket) const;

  /// A pump has moved something. Where bulk and messages share a turn of the loop, the CPU is
  /// offered to others at its end, to those who wait for the messages: the scheduler would let this
  /// thread have it until its slice is over, and bulk always has more to do.
  void moved(bool bulk) { (bulk ? bulk_moved_ : message_moved_) = true; }

  /// A relay was made, or is about to be freed. When most of a crowd has gone, what it had goes
  /// back to the system: the allocator keeps what lies below anything that outlived the crowd.
  void count_in();
  void count_out();

 private:
  static constexpr std::size_t kCrowd = 512;  ///< relays; fewer are not worth the walk

  void before_wait() override;

  EventLoop& loop_;
  std::unique_ptr<std::array<std::byte, kBufferSize>> buffer_;
  std::unique_ptr<DatagramReceiver> datagrams_;
  PipePool pipes_;
  std::size_t live_ = 0;        ///< relays
  std::size_t most_ = 0;        ///< at a time since memory was last given back
  bool prefer_reno_;            ///< read once
  bool bulk_moved_ = false;     ///< in this turn
  bool message_moved_ = false;  ///< in this turn
};

}  // namespace portfwd
