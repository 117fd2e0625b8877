// One direction of a relay: moves bytes from one stream socket to another until one of them blocks.
// A member of its Relay, which owns both sockets. It does not use epoll and does not shut down or
// close sockets: it returns what it waits for, and the relay acts on it.
//
// Bytes are moved in two ways. Small messages are copied through one buffer that all pumps share. A
// read of kBulkRead or more bytes starts *bulk* mode: bytes are spliced through a pipe, which is
// leased while bytes are in it. kSmallSplicesToCopy splices in succession of less than kSmallSplice
// end bulk mode, and so does a failure to lease a pipe. A splice reports urgent data as the end of
// input, so only a read decides that the input has ended.
//
// Descriptors that a Unix socket carries are lost without a sign in either way. For a source whose
// peer may send them, refuse_descriptors() makes the pump read in a third way, which notices them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "relay/relay_context.h"

namespace portfwd {

enum class PumpState : std::uint8_t {
  NeedsInput,    ///< all input was delivered
  NeedsOutput,   ///< bytes wait until the sink accepts them
  Finished,      ///< the source has ended and all input was delivered
  SourceBroken,  ///< the source was reset; all input before that was delivered
  SinkBroken,    ///< the sink no longer accepts bytes
};

/// The state of a pump between two calls of run(), for its successor in a restarted daemon.
struct PumpRecord {
  std::vector<std::byte> bytes;  ///< read and not delivered; empty if there is a pipe
  std::optional<Pipe> pipe;      ///< contains bytes that were read and not delivered
  bool bulk = false;
  bool has_read = false;
};

class Pump {
 public:
  static constexpr std::size_t kBytesPerTurn =
      1024 * 1024;  ///< after that, other sources are handled
  static constexpr std::size_t kBulkRead = 32 * 1024;
  static constexpr std::size_t kSmallSplice = 4 * 1024;
  static constexpr std::uint8_t kSmallSplicesToCopy = 4;

  /// The sockets of a pump. Always the same ones for one pump; borrowed during the call.
  struct Streams {
    RelayContext& context;
    int source;  ///< a non-blocking stream socket, like `sink`
    int sink;
    std::uint64_t& delivered;  ///< bytes that the sink accepts are added
  };

  Pump() = default;
  Pump(const Pump&) = delete;
  Pump& operator=(const Pump&) = delete;

  /// Moves up to `most` bytes, exceeding it by less than one read. After NeedsInput, more input may
  /// already be available, which a level-triggered epoll reports.
  [[nodiscard]] PumpState run(const Streams& streams, std::size_t most = kBytesPerTurn);
  /// Whether there are bytes that were read and not written: at most one pipe or buffer full.
  [[nodiscard]] bool holds_bytes() const { return pipe_ != nullptr || leftover_ != nullptr; }
  [[nodiscard]] bool bulk() const { return bulk_; }
  /// Whether the source has sent anything so far.
  [[nodiscard]] bool has_read() const { return has_read_; }
  /// Makes the next read copy, because the source has urgent data, at which a splice stops.
  void copy_next() { bulk_ = false; }
  /// Makes a message with descriptors break the source, so that no sink gets its bytes without
  /// them. All bytes are copied. Must be called before run().
  void refuse_descriptors() { descriptors_ = Descriptors::Checked; }
  /// Whether the source was broken by such a message.
  [[nodiscard]] bool has_refused() const { return descriptors_ == Descriptors::Refused; }
  /// Discards the bytes that were read and not written.
  void drop();
  /// Moves the state and the bytes that were not written into a record.
  [[nodiscard]] PumpRecord save();
  /// Continues from a record. run() must not have been called.
  void restore(RelayContext& context, PumpRecord record);

 private:
  using Stop = std::optional<PumpState>;  ///< nothing: continue

  Stop flush(const Streams& streams);
  Stop flush_leftover(const Streams& streams);
  Stop flush_pipe(const Streams& streams);
  [[nodiscard]] Transfer receive(const Streams& streams);
  Stop copy_through(const Streams& streams, std::size_t& moved);
  Stop splice_through(const Streams& streams, std::size_t& moved);
  Stop send_or_keep(const Streams& streams, std::span<const std::byte> bytes);
  void note_splice(std::size_t bytes);

  struct Leftover {
    std::vector<std::byte> bytes;
    std::size_t sent = 0;
  };

  PipePool::Lease pipe_;
  std::unique_ptr<Leftover> leftover_;  ///< the rest of a copy that the sink accepted in part
  std::uint8_t small_splices_ = 0;      ///< in succession
  bool bulk_ = false;
  bool has_read_ = false;
  enum class Descriptors : std::uint8_t { Lost, Checked, Refused };
  Descriptors descriptors_ = Descriptors::Lost;
};

}  // namespace portfwd
