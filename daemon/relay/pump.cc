#include "relay/pump.h"

#include <cassert>

namespace portfwd {

namespace {

using enum Transfer::Outcome;

PumpState state_without_input(Transfer::Outcome outcome) {
  if (outcome == WouldBlock) return PumpState::NeedsInput;
  return outcome == End ? PumpState::Finished : PumpState::SourceBroken;
}

PumpState state_without_output(Transfer::Outcome outcome) {
  return outcome == WouldBlock ? PumpState::NeedsOutput : PumpState::SinkBroken;
}

}  // namespace

PumpState Pump::run(const Streams& streams, std::size_t most) {
  std::size_t moved = 0;
  assert(!leftover_ || !pipe_);  // bytes wait in one place, which keeps their order
  Stop stop = flush(streams);
  while (!stop) {
    if (moved >= most) {
      stop = PumpState::NeedsInput;
    } else {
      stop = bulk_ ? splice_through(streams, moved) : copy_through(streams, moved);
    }
  }
  if (pipe_ && pipe_->empty()) pipe_.reset();
  streams.context.note_moved(bulk_);
  return *stop;
}

void Pump::drop() {
  pipe_.reset();
  leftover_.reset();
}

PumpRecord Pump::save() {
  PumpRecord record{.bulk = bulk_, .has_read = has_read_};
  if (leftover_) {
    const auto unsent = leftover_->bytes.begin() + static_cast<std::ptrdiff_t>(leftover_->sent);
    record.bytes.assign(unsent, leftover_->bytes.end());
  }
  if (pipe_ && !pipe_->empty()) record.pipe = PipePool::release(std::move(pipe_));
  drop();
  return record;
}

void Pump::restore(RelayContext& context, PumpRecord record) {
  assert(!has_read_ && !holds_bytes());
  assert(record.bytes.empty() || !record.pipe);
  if (!record.bytes.empty()) leftover_.reset(new Leftover{std::move(record.bytes), 0});
  if (record.pipe) pipe_ = context.pipes().adopt(std::move(*record.pipe));
  bulk_ = record.bulk;
  has_read_ = record.has_read;
}

Pump::Stop Pump::flush(const Streams& streams) {
  if (leftover_) return flush_leftover(streams);
  return flush_pipe(streams);
}

Pump::Stop Pump::flush_leftover(const Streams& streams) {
  assert(leftover_->sent < leftover_->bytes.size());
  while (leftover_->sent < leftover_->bytes.size()) {
    const Transfer out =
        send_some(streams.sink, std::span(leftover_->bytes).subspan(leftover_->sent));
    if (!out.moved()) return state_without_output(out.outcome);
    leftover_->sent += out.bytes;
    streams.delivered += out.bytes;
  }
  leftover_.reset();
  return std::nullopt;
}

Pump::Stop Pump::flush_pipe(const Streams& streams) {
  while (pipe_ && !pipe_->empty()) {
    const Transfer out = pipe_->drain_to(streams.sink);
    if (!out.moved()) return state_without_output(out.outcome);
    streams.delivered += out.bytes;
  }
  return std::nullopt;
}

Transfer Pump::receive(const Streams& streams) {
  if (descriptors_ == Descriptors::Lost) {
    return receive_some(streams.source, streams.context.buffer());
  }
  const Transfer in = receive_unaccompanied(streams.source, streams.context.buffer());
  if (in.outcome == Transfer::Outcome::Descriptors) descriptors_ = Descriptors::Refused;
  return in;
}

/// After a short read the source is empty, so no second call is made.
Pump::Stop Pump::copy_through(const Streams& streams, std::size_t& moved) {
  assert(!leftover_ && (!pipe_ || pipe_->empty()));
  const std::span<std::byte> buffer = streams.context.buffer();
  const Transfer in = receive(streams);
  if (!in.moved()) return state_without_input(in.outcome);
  moved += in.bytes;
  has_read_ = true;
  if (in.bytes >= kBulkRead && descriptors_ == Descriptors::Lost) bulk_ = true, small_splices_ = 0;
  if (Stop stop = send_or_keep(streams, buffer.first(in.bytes))) return stop;
  if (in.bytes < buffer.size()) return PumpState::NeedsInput;
  return std::nullopt;
}

Pump::Stop Pump::send_or_keep(const Streams& streams, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const Transfer out = send_some(streams.sink, bytes);
    if (!out.moved()) {
      if (out.outcome == WouldBlock) {
        leftover_ = std::make_unique<Leftover>(Leftover{{bytes.begin(), bytes.end()}, 0});
      }
      return state_without_output(out.outcome);
    }
    streams.delivered += out.bytes;
    bytes = bytes.subspan(out.bytes);
  }
  return std::nullopt;
}

/// After an End the next read copies, which distinguishes urgent data from the end of input.
/// Test: StreamFacts.ASpliceReportsUrgentDataAsTheEnd
Pump::Stop Pump::splice_through(const Streams& streams, std::size_t& moved) {
  assert(!leftover_ && (!pipe_ || pipe_->empty()));
  if (!pipe_) pipe_ = streams.context.pipes().lease();
  if (!pipe_) {
    bulk_ = false;
    return std::nullopt;
  }
  const Transfer in = pipe_->fill_from(streams.source);
  if (in.outcome == End) {
    bulk_ = false;
    return std::nullopt;
  }
  if (!in.moved()) return state_without_input(in.outcome);
  moved += in.bytes;
  note_splice(in.bytes);
  return flush_pipe(streams);
}

void Pump::note_splice(std::size_t bytes) {
  small_splices_ = bytes < kSmallSplice ? static_cast<std::uint8_t>(small_splices_ + 1) : 0;
  if (small_splices_ == kSmallSplicesToCopy) bulk_ = false;
}

}  // namespace portfwd
