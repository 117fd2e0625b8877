// One direction of a relay: moves bytes from one stream socket to another until one of them blocks.
// A part of its Relay, which owns both sockets. It knows nothing of epoll and never shuts anything
// down; it says what it waits for and the relay acts.
//
// Two ways, since each wins where the other loses. Small messages are copied through one buffer
// that all pumps share. A read of 32 KiB or more makes the direction *bulk*: from then on it is
// spliced through a pipe, leased while bytes are in it. Four small splices in a row turn it back.
// Whoever gets no pipe copies. A splice takes urgent data for the end, so only a read is believed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "relay/relay_context.h"

namespace portfwd {

enum class PumpState : std::uint8_t {
  NeedsInput,    ///< all that came is out
  NeedsOutput,   ///< bytes wait for room at the sink
  Finished,      ///< the source has ended and all of it is out
  SourceBroken,  ///< the source was reset; what it had sent before is out
  SinkBroken,    ///< the sink takes nothing any more
};

class Pump {
 public:
  static constexpr std::size_t kBytesPerTurn = 1024 * 1024;  ///< then others have their turn
  static constexpr std::size_t kBulkRead = 32 * 1024;
  static constexpr std::size_t kSmallSplice = 4 * 1024;
  static constexpr std::uint8_t kSmallSplicesToCopy = 4;

  /// @param context, delivered borrowed @param source, sink borrowed, non-blocking stream sockets
  Pump(RelayContext& context, int source, int sink, std::uint64_t& delivered)
      : context_(context), delivered_(delivered), source_(source), sink_(sink) {}

  /// Moves up to `most` bytes, and no more than one read beyond. With NeedsInput more input may be
  /// there already: a level-triggered epoll tells.
  [[nodiscard]] PumpState run(std::size_t most = kBytesPerTurn);
  /// Bytes that were read and not written; at most one pipe or one buffer full.
  [[nodiscard]] bool holds_bytes() const { return pipe_ != nullptr || leftover_ != nullptr; }
  [[nodiscard]] bool bulk() const { return bulk_; }
  /// Whether the source has sent anything so far.
  [[nodiscard]] bool has_read() const { return has_read_; }
  /// The source has urgent data, at which a splice stops: the next read copies.
  void copy_next() { bulk_ = false; }
  /// Forgets what it holds.
  void drop();

 private:
  using Stop = std::optional<PumpState>;  ///< nothing: go on

  Stop flush();
  Stop flush_leftover();
  Stop flush_pipe();
  Stop copy_through(std::size_t& moved);
  Stop splice_through(std::size_t& moved);
  Stop send_or_keep(std::span<const std::byte> bytes);
  void note_splice(std::size_t bytes);

  struct Leftover {
    std::vector<std::byte> bytes;
    std::size_t sent = 0;
  };

  RelayContext& context_;
  std::uint64_t& delivered_;
  PipePool::Lease pipe_;
  std::unique_ptr<Leftover> leftover_;  ///< of a copy that the sink took only in part
  int source_;
  int sink_;
  std::uint8_t small_splices_ = 0;  ///< in a row
  bool bulk_ = false;
  bool has_read_ = false;
};

}  // namespace portfwd
