// What all relays of the daemon share: the loop, one buffer for copying, the pipes, and how sockets
// are set up. Owned by main, borrowed by everything in relay/. It knows no single connection.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "event/event_loop.h"
#include "kernel/splice_pipe.h"

namespace portfwd {

class RelayContext {
 public:
  static constexpr std::size_t kBufferSize = 64 * 1024;  ///< bytes

  explicit RelayContext(EventLoop& loop);
  RelayContext(const RelayContext&) = delete;
  RelayContext& operator=(const RelayContext&) = delete;

  [[nodiscard]] EventLoop& loop() { return loop_; }
  [[nodiscard]] PipePool& pipes() { return pipes_; }
  /// For the time of one call only: what must be kept is copied out of it.
  [[nodiscard]] std::span<std::byte> buffer() { return *buffer_; }

  /// Nagle off, and reno where the host's default is bbr: on loopback bbr costs a third of the
  /// throughput. On a listener it holds for what it accepts. Source: tcp(7); platform test.
  void tune(int socket) const;

 private:
  EventLoop& loop_;
  std::unique_ptr<std::array<std::byte, kBufferSize>> buffer_;
  PipePool pipes_;
  bool prefer_reno_;  ///< read once
};

}  // namespace portfwd
