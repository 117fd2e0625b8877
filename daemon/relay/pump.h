// One direction of a relay: moves bytes from one stream socket to another until one of them blocks.
// A part of its Relay, which owns both sockets. It knows nothing of epoll and shuts nothing down:
// it returns what it waits for, and the relay acts on it.
//
// Bytes are moved in two ways. Small messages are copied through one buffer that all pumps share. A
// read of 32 KiB or more makes the direction *bulk*: from then on it is spliced through a pipe,
// which is leased while bytes are in it. Four small splices in succession end bulk mode. A pump
// that gets no pipe copies. A splice takes urgent data for the end of input, so only a read decides
// that the input has ended.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "relay/relay_context.h"

namespace portfwd {

enum class PumpState : std::uint8_t {
  NeedsInput,    ///< all input was delivered
  NeedsOutput,   ///< bytes wait for room at the sink
  Finished,      ///< the source has ended and all input was delivered
  SourceBroken,  ///< the source was reset; all input before that was delivered
  SinkBroken,    ///< the sink takes nothing any more
};

/// The state of a pump between two calls of run(), for its successor in a restarted daemon.
struct PumpRecord {
  std::vector<std::byte> bytes;  ///< read and not delivered; none where there is a pipe
  std::optional<Pipe> pipe;      ///< with bytes that were read and not delivered
  bool bulk = false;
  bool has_read = false;
};

class Pump {
 public:
  static constexpr std::size_t kBytesPerTurn = 1024 * 1024;  ///< then other sources are served
  static constexpr std::size_t kBulkRead = 32 * 1024;
  static constexpr std::size_t kSmallSplice = 4 * 1024;
  static constexpr std::uint8_t kSmallSplicesToCopy = 4;

  /// Between what a pump moves bytes; always the same for one pump, and borrowed during the call.
  struct Way {
    RelayContext& context;
    int source;  ///< a non-blocking stream socket, as `sink`
    int sink;
    std::uint64_t& delivered;  ///< bytes that the sink took are added
  };

  Pump() = default;
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;

  /// Moves up to `most` bytes, and no more than one read beyond. With NeedsInput more input may be
  /// there already, which a level-triggered epoll reports.
  [[nodiscard]] PumpState run(const Way& way, std::size_t most = kBytesPerTurn);
  /// Bytes that were read and not written; at most one pipe or one buffer full.
  [[nodiscard]] bool holds_bytes() const { return pipe_ != nullptr || leftover_ != nullptr; }
  [[nodiscard]] bool bulk() const { return bulk_; }
  /// Whether the source has sent anything so far.
  [[nodiscard]] bool has_read() const { return has_read_; }
  /// The source has urgent data, at which a splice stops: the next read copies.
  void copy_next() { bulk_ = false; }
  /// Discards the bytes that it holds.
  void drop();
  /// Gives up the bytes that it holds.
  [[nodiscard]] PumpRecord save();
  /// Goes on from a record. Must not have run.
  void restore(RelayContext& context, PumpRecord record);

 private:
  using Stop = std::optional<PumpState>;  ///< nothing: go on

  Stop flush(const Way& way);
  Stop flush_leftover(const Way& way);
  Stop flush_pipe(const Way& way);
  Stop copy_through(const Way& way, std::size_t& moved);
  Stop splice_through(const Way& way, std::size_t& moved);
  Stop send_or_keep(const Way& way, std::span<const std::byte> bytes);
  void note_splice(std::size_t bytes);

  struct Leftover {
    std::vector<std::byte> bytes;
    std::size_t sent = 0;
  };

  PipePool::Lease pipe_;
  std::unique_ptr<Leftover> leftover_;  ///< of a copy that the sink took only in part
  std::uint8_t small_splices_ = 0;      ///< in succession
  bool bulk_ = false;
  bool has_read_ = false;
};

}  // namespace portfwd
