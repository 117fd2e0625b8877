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

PumpState Pump::run(std::size_t most) {
  std::size_t moved = 0;
  assert(!leftover_ || !pipe_);  // bytes wait in one place, so that they stay in order
  Stop stop = flush();
  while (!stop) {
    if (moved >= most) {
      stop = PumpState::NeedsInput;
    } else {
      stop = bulk_ ? splice_through(moved) : copy_through(moved);
    }
  }
  if (pipe_ && pipe_->empty()) pipe_.reset();
  context_.moved(bulk_);
  return *stop;
}

void Pump::drop() {
  pipe_.reset();
  leftover_.reset();
}

Pump::Stop Pump::flush() {
  if (leftover_) return flush_leftover();
  return flush_pipe();
}

Pump::Stop Pump::flush_leftover() {
  assert(leftover_->sent < leftover_->bytes.size());
  while (leftover_->sent < leftover_->bytes.size()) {
    const Transfer out = send_some(sink_, std::span(leftover_->bytes).subspan(leftover_->sent));
    if (!out.moved()) return state_without_output(out.outcome);
    leftover_->sent += out.bytes;
    delivered_ += out.bytes;
  }
  leftover_.reset();
  return std::nullopt;
}

Pump::Stop Pump::flush_pipe() {
  while (pipe_ && !pipe_->empty()) {
    const Transfer out = pipe_->drain_to(sink_);
    if (!out.moved()) return state_without_output(out.outcome);
    delivered_ += out.bytes;
  }
  return std::nullopt;
}

/// A short read means that the source is drained: no second call to be told so.
Pump::Stop Pump::copy_through(std::size_t& moved) {
  assert(!leftover_ && (!pipe_ || pipe_->empty()));
  const std::span<std::byte> buffer = context_.buffer();
  const Transfer in = receive_some(source_, buffer);
  if (!in.moved()) return state_without_input(in.outcome);
  moved += in.bytes;
  has_read_ = true;
  if (in.bytes >= kBulkRead) bulk_ = true, small_splices_ = 0;
  if (Stop stop = send_or_keep(buffer.first(in.bytes))) return stop;
  if (in.bytes < buffer.size()) return PumpState::NeedsInput;
  return std::nullopt;
}

Pump::Stop Pump::send_or_keep(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const Transfer out = send_some(sink_, bytes);
    if (!out.moved()) {
      if (out.outcome == WouldBlock) {
        leftover_ = std::make_unique<Leftover>(Leftover{{bytes.begin(), bytes.end()}, 0});
      }
      return state_without_output(out.outcome);
    }
    delivered_ += out.bytes;
    bytes = bytes.subspan(out.bytes);
  }
  return std::nullopt;
}

/// That urgent data is no end is what a copy finds out.
/// Test: StreamFacts.ASpliceStopsAtUrgentDataAndTakesItForTheEnd
Pump::Stop Pump::splice_through(std::size_t& moved) {
  assert(!leftover_ && (!pipe_ || pipe_->empty()));
  if (!pipe_) pipe_ = context_.pipes().lease();
  if (!pipe_) {
    bulk_ = false;
    return std::nullopt;
  }
  const Transfer in = pipe_->fill_from(source_);
  if (in.outcome == End) {
    bulk_ = false;
    return std::nullopt;
  }
  if (!in.moved()) return state_without_input(in.outcome);
  moved += in.bytes;
  note_splice(in.bytes);
  return flush_pipe();
}

void Pump::note_splice(std::size_t bytes) {
  small_splices_ = bytes < kSmallSplice ? static_cast<std::uint8_t>(small_splices_ + 1) : 0;
  if (small_splices_ == kSmallSplicesToCopy) bulk_ = false;
}

}  // namespace portfwd
