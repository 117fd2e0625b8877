// System calls on stream sockets, and pipes for splice(2). A call returns how much it moved, or why
// it moved nothing. Used by pumps and dialers. Connections are not known here.
#pragma once

#include <sys/types.h>

#include <cassert>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"

namespace portfwd {

/// The result of one non-blocking call. All outcomes but Failed and Descriptors are expected.
struct Transfer {
  enum class Outcome : std::uint8_t { Moved, WouldBlock, End, Failed, Descriptors };
  Outcome outcome = Outcome::WouldBlock;
  std::size_t bytes = 0;  ///< > 0 with Moved, else 0

  [[nodiscard]] bool moved() const { return outcome == Outcome::Moved; }
};

/// End: the peer has shut down its sending side and everything before it has been read.
/// What arrived before a reset is read first. Source: tcp_recvmsg in net/ipv4/tcp.c, platform test.
[[nodiscard]] Transfer receive_some(int fd, std::span<std::byte> into);
/// As receive_some(), which closes descriptors that a Unix socket carries without a sign.
/// @return Descriptors: the bytes came with descriptors; both are lost. Source: unix(7),
/// MSG_CTRUNC.
[[nodiscard]] Transfer receive_unaccompanied(int fd, std::span<std::byte> into);
/// Never raises SIGPIPE.
[[nodiscard]] Transfer send_some(int fd, std::span<const std::byte> from);
/// Either `from` or `to` must be a pipe. May raise SIGPIPE, which the daemon ignores. Source:
/// splice(2).
[[nodiscard]] Transfer splice_some(int from, int to, std::size_t max);

/// Returns and clears the pending error of the socket; 0 when there is none.
[[nodiscard]] int take_socket_error(int fd);
/// Makes close() discard unsent bytes and send a RST. Has no effect on a Unix socket.
/// Source: socket(7), SO_LINGER.
void reset_on_close(int fd);
/// Bytes written and not yet sent, for example because of a full window; 0 for a socket that is not
/// TCP.
/// Source: SIOCOUTQNSD, linux/sockios.h.
[[nodiscard]] std::size_t unsent_bytes(int fd);
/// Makes EPOLLOUT mean that unsent_bytes() is 0. Source: tcp(7), TCP_NOTSENT_LOWAT.
void writable_when_all_is_sent(int fd);
/// Owner of a connected stream socket: resets the connection unless the socket was released, so
/// that its peer does not take an unfinished stream for a complete one.
class ResettingFd {
 public:
  ResettingFd() = default;
  explicit ResettingFd(UniqueFd socket) : socket_(std::move(socket)) {}
  ResettingFd(ResettingFd&&) noexcept = default;
  ResettingFd& operator=(ResettingFd&& other) noexcept {
    std::swap(socket_, other.socket_);
    return *this;
  }
  ~ResettingFd() {
    if (socket_.valid()) reset_on_close(socket_.get());
  }

  [[nodiscard]] int get() const { return socket_.get(); }
  [[nodiscard]] bool valid() const { return socket_.valid(); }
  [[nodiscard]] UniqueFd release() { return std::move(socket_); }

 private:
  UniqueFd socket_;
};

/// One end of the connection; nothing for a socket that is not IP.
[[nodiscard]] std::optional<Endpoint> local_endpoint(int fd);
[[nodiscard]] std::optional<Endpoint> peer_endpoint(int fd);

/// The user who connected a Unix socket; nothing for another kind of socket. Source: unix(7),
/// SO_PEERCRED.
[[nodiscard]] std::optional<uid_t> peer_uid(int fd);

/// One pipe and the number of bytes in it.
class Pipe {
 public:
  /// @param wanted bytes. Where the kernel refuses it (EPERM: the user's share is used up) smaller
  /// sizes are tried, down to the kernel's default. @return EMFILE or ENFILE when descriptors are
  /// short
  [[nodiscard]] static Result<Pipe> make(std::size_t wanted);

  /// Precondition: empty(), since sixteen one-byte segments fill every slot of a 64 KiB pipe.
  [[nodiscard]] Transfer fill_from(int socket);
  [[nodiscard]] Transfer drain_to(int socket);
  [[nodiscard]] bool empty() const { return fill_ == 0; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }

 private:
  Pipe(UniqueFd read_end, UniqueFd write_end, std::size_t capacity)
      : read_end_(std::move(read_end)), write_end_(std::move(write_end)), capacity_(capacity) {}

  UniqueFd read_end_;
  UniqueFd write_end_;
  std::size_t capacity_;  ///< bytes
  std::size_t fill_ = 0;  ///< bytes
};

// The pipes of all pumps. A pipe is leased only while it holds bytes, so an idle connection has
// none. Owned by the RelayContext.
//
// All pipes of a *user* together may hold a limited number of bytes
// (/proc/sys/fs/pipe-user-pages-soft, 64 MiB). Beyond it every new pipe of that user, in any
// program, gets two pages. So the pool has a few large pipes, then smaller ones, and a limit on
// all. A pump without a pipe copies, which is far faster than splicing eight kilobytes at a time.
// Source: pipe(7).
class PipePool {
 public:
  static constexpr std::size_t kMostLeased = 64;
  static constexpr std::size_t kMostLarge = 16;  ///< leased pipes from which on new ones are small
  static constexpr std::size_t kMostIdle = 4;
  static constexpr std::size_t kLarge = 1024 * 1024;  ///< bytes
  static constexpr std::size_t kSmall = 256 * 1024;   ///< bytes
  static constexpr std::size_t kLeast = 64 * 1024;    ///< bytes; smaller pipes are not leased
  static constexpr std::size_t kLeasesUntilRetry =
      256;  ///< failed leases before a pipe is made again

  struct Return {
    PipePool* pool = nullptr;
    void operator()(Pipe* pipe) const { pool->return_pipe(std::unique_ptr<Pipe>(pipe)); }
  };
  /// Returns the pipe when it is destroyed. A pipe that still holds bytes is closed, never leased
  /// again.
  using Lease = std::unique_ptr<Pipe, Return>;

  PipePool() = default;
  PipePool(const PipePool&) = delete;
  PipePool& operator=(const PipePool&) = delete;
  ~PipePool() { assert(leased_ == 0); }

  /// @return nothing when all are leased, when any program has used up the user's share, or when
  /// the process has no descriptors left: then the caller must copy
  [[nodiscard]] Lease lease();
  /// Takes a pipe, with the bytes in it, out of the pool for good.
  [[nodiscard]] static Pipe release(Lease lease);
  /// Leases a pipe that was made elsewhere, whatever the limits.
  [[nodiscard]] Lease adopt(Pipe pipe);
  [[nodiscard]] std::size_t leased() const { return leased_; }
  [[nodiscard]] std::size_t idle() const { return idle_.size(); }

 private:
  [[nodiscard]] std::unique_ptr<Pipe> take_idle();
  [[nodiscard]] std::unique_ptr<Pipe> make_large_enough();
  void return_pipe(std::unique_ptr<Pipe> pipe);

  std::vector<std::unique_ptr<Pipe>> idle_;
  std::size_t leased_ = 0;
  std::size_t refusals_left_ = 0;
};

}  // namespace portfwd
