#include "kernel/stream.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>

namespace portfwd {

namespace {

/// @param n the return value of a read or write. EINTR: the level-triggered loop reports the socket
/// again.
Transfer outcome_of(ssize_t n) {
  using enum Transfer::Outcome;
  if (n > 0) return {Moved, static_cast<std::size_t>(n)};
  if (n == 0) return {End, 0};
  return {errno == EAGAIN || errno == EINTR ? WouldBlock : Failed, 0};
}

using NameCall = int (*)(int, sockaddr*, socklen_t*);

std::optional<Endpoint> endpoint_by(NameCall call, int fd) {
  SockAddr address;
  address.length = sizeof address.storage;
  if (call(fd, address.get(), &address.length) != 0) return std::nullopt;
  return from_sockaddr(address);
}

}  // namespace

Transfer receive_some(int fd, std::span<std::byte> into) {
  return outcome_of(::recv(fd, into.data(), into.size(), MSG_DONTWAIT));
}

/// The kernel sets MSG_CTRUNC because there is no buffer for descriptors, and closes them.
Transfer receive_unaccompanied(int fd, std::span<std::byte> into) {
  iovec part{into.data(), into.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  const Transfer in = outcome_of(::recvmsg(fd, &header, MSG_DONTWAIT));
  if (in.moved() && (header.msg_flags & MSG_CTRUNC) != 0)
    return {Transfer::Outcome::Descriptors, 0};
  return in;
}

Transfer send_some(int fd, std::span<const std::byte> from) {
  return outcome_of(::send(fd, from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
}

Transfer splice_some(int from, int to, std::size_t max) {
  return outcome_of(::splice(from, nullptr, to, nullptr, max, SPLICE_F_NONBLOCK | SPLICE_F_MOVE));
}

int take_socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

void reset_on_close(int fd) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

std::size_t unsent_bytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQNSD, &bytes) == 0 ? static_cast<std::size_t>(std::max(bytes, 0)) : 0;
}

void writable_when_all_is_sent(int fd) {
  const int low_water = 1;
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low_water, sizeof low_water);
}

std::optional<Endpoint> local_endpoint(int fd) {
  return endpoint_by(::getsockname, fd);
}
std::optional<Endpoint> peer_endpoint(int fd) {
  return endpoint_by(::getpeername, fd);
}

std::optional<uid_t> peer_uid(int fd) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  if (peer.uid == static_cast<uid_t>(-1)) return std::nullopt;  // not a connected Unix socket
  return peer.uid;
}

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

Pipe PipePool::release(Lease lease) {
  assert(lease != nullptr);
  PipePool& pool = *lease.get_deleter().pool;
  assert(pool.leased_ > 0);
  --pool.leased_;
  const std::unique_ptr<Pipe> pipe(lease.release());
  return std::move(*pipe);
}

PipePool::Lease PipePool::adopt(Pipe pipe) {
  ++leased_;
  return {std::make_unique<Pipe>(std::move(pipe)).release(), Return{this}};
}

std::unique_ptr<Pipe> PipePool::take_idle() {
  if (idle_.empty()) return nullptr;
  std::unique_ptr<Pipe> pipe = std::move(idle_.back());
  idle_.pop_back();
  return pipe;
}

/// After a pipe that was too small none is made for kLeasesUntilRetry leases: making one costs as
/// much as copying 64 KiB.
std::unique_ptr<Pipe> PipePool::make_large_enough() {
  if (refusals_left_ > 0) {
    --refusals_left_;
    return nullptr;
  }
  auto made = Pipe::make(leased_ < kMostLarge ? kLarge : kSmall);
  if (made && made->capacity() >= kLeast) return std::make_unique<Pipe>(std::move(*made));
  refusals_left_ = kLeasesUntilRetry;
  return nullptr;
}

/// Large pipes are kept, not the small ones that a burst of connections has left.
void PipePool::return_pipe(std::unique_ptr<Pipe> pipe) {
  assert(pipe != nullptr && leased_ > 0);
  --leased_;
  if (pipe->empty() && pipe->capacity() >= kLarge && idle_.size() < kMostIdle) {
    idle_.push_back(std::move(pipe));
  }
}

}  // namespace portfwd
