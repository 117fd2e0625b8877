#include "kernel/splice_pipe.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cassert>

namespace portfwd {

Result<Pipe> Pipe::make(std::size_t wanted) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return fail("pipe2");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  for (std::size_t size = wanted; size >= PipePool::kSmall; size /= 4) {
    if (::fcntl(write_end.get(), F_SETPIPE_SZ, static_cast<int>(size)) >= 0) break;
  }
  const int capacity = ::fcntl(write_end.get(), F_GETPIPE_SZ);
  if (capacity < 0) return fail("F_GETPIPE_SZ");
  return Pipe(std::move(read_end), std::move(write_end), static_cast<std::size_t>(capacity));
}

Transfer Pipe::fill_from(int socket) {
  assert(empty());
  const Transfer in = splice_some(socket, write_end_.get(), capacity_);
  fill_ += in.bytes;
  assert(fill_ <= capacity_);
  return in;
}

Transfer Pipe::drain_to(int socket) {
  assert(!empty());
  const Transfer out = splice_some(read_end_.get(), socket, fill_);
  assert(out.bytes <= fill_);
  fill_ -= out.bytes;
  return out;
}

PipePool::Lease PipePool::lease() {
  if (leased_ >= kMostLeased) return {};
  std::unique_ptr<Pipe> pipe = take_idle();
  if (!pipe) pipe = make_large_enough();
  if (!pipe) return {};
  assert(pipe->empty());
  ++leased_;
  return {pipe.release(), Return{this}};
}

std::unique_ptr<Pipe> PipePool::take_idle() {
  if (idle_.empty()) return nullptr;
  std::unique_ptr<Pipe> pipe = std::move(idle_.back());
  idle_.pop_back();
  return pipe;
}

/// To make one and find it too small costs as much as copying 64 KiB does.
std::unique_ptr<Pipe> PipePool::make_large_enough() {
  if (refusals_left_ > 0) {
    --refusals_left_;
    return nullptr;
  }
  auto made = Pipe::make(leased_ < kMostLarge ? kLarge : kSmall);
  if (made && made->capacity() >= kLeast) return std::make_unique<Pipe>(std::move(*made));
  refusals_left_ = kRefusals;
  return nullptr;
}

/// The large ones are kept rather than the small ones that a rush of connections left behind.
void PipePool::take_back(std::unique_ptr<Pipe> pipe) {
  assert(pipe != nullptr && leased_ > 0 && leased_ <= kMostLeased);
  --leased_;
  if (pipe->empty() && pipe->capacity() >= kLarge && idle_.size() < kMostIdle) {
    idle_.push_back(std::move(pipe));
  }
}

}  // namespace portfwd
