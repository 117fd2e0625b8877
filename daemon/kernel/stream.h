// System calls on stream sockets, and pipes for splice(2). A call returns how much it moved, or why
// nothing moved. Used by pumps and dialers. It knows nothing of connections.
#pragma once

#include <cassert>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"

namespace portfwd {

/// The result of one non-blocking call. All outcomes but Failed are expected.
struct Transfer {
  enum class Outcome : std::uint8_t { Moved, WouldBlock, End, Failed };
  Outcome outcome = Outcome::WouldBlock;
  std::size_t bytes = 0;  ///< > 0 with Moved, else 0

  [[nodiscard]] bool moved() const { return outcome == Outcome::Moved; }
};

/// End: the peer has shut down its sending side and everything before it has been read.
/// What arrived before a reset is read first. Source: tcp_recvmsg in net/ipv4/tcp.c, platform test.
[[nodiscard]] Transfer receive_some(int fd, std::span<std::byte> into);
/// Never raises SIGPIPE.
[[nodiscard]] Transfer send_some(int fd, std::span<const std::byte> from);
/// One of `from` and `to` is a pipe. May raise SIGPIPE, which main ignores. Source: splice(2).
[[nodiscard]] Transfer splice_some(int from, int to, std::size_t max);

/// The error that waits on the socket, which is cleared by asking; 0 when there is none.
[[nodiscard]] int take_socket_error(int fd);
/// From now on close() discards what is unsent and sends a RST. On a Unix socket without effect.
/// Source: socket(7), SO_LINGER.
void reset_on_close(int fd);
/// Bytes written and not yet sent, as by a full window; 0 for a socket that is not TCP.
/// Source: SIOCOUTQNSD, linux/sockios.h.
[[nodiscard]] std::size_t unsent_bytes(int fd);
/// EPOLLOUT from now on means that unsent_bytes() is 0. Source: tcp(7), TCP_NOTSENT_LOWAT.
void writable_when_all_is_sent(int fd);
/// One end of a socket's 4-tuple; nothing for a socket that is not IP.
[[nodiscard]] std::optional<Endpoint> local_endpoint(int fd);
[[nodiscard]] std::optional<Endpoint> peer_endpoint(int fd);

/// One pipe and the number of bytes in it.
class Pipe {
 public:
  /// @param wanted bytes; where the kernel denies it (EPERM: the user's share is used up) smaller
  /// sizes are tried, down to the kernel's default. Fails with EMFILE or ENFILE.
  [[nodiscard]] static Result<Pipe> make(std::size_t wanted);

  /// Must be empty(): sixteen one-byte segments fill every slot of a 64 KiB pipe.
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

// The pipes of all pumps. A pipe is leased only while bytes are in it, so an idle connection has
// none. Owned by the RelayContext.
//
// All pipes of a *user* together may hold a limited number of bytes
// (/proc/sys/fs/pipe-user-pages-soft, 64 MiB), and beyond it every new pipe of that user, in any
// program, gets two pages. So there are a few large pipes, then smaller ones, and a limit on all; a
// pump without a pipe copies, which is far faster than splicing eight kilobytes at a time.
// Source: pipe(7).
class PipePool {
 public:
  static constexpr std::size_t kMostLeased = 64;
  static constexpr std::size_t kMostLarge = 16;  ///< leased pipes from which new ones are smaller
  static constexpr std::size_t kMostIdle = 4;
  static constexpr std::size_t kLarge = 1024 * 1024;  ///< bytes
  static constexpr std::size_t kSmall = 256 * 1024;   ///< bytes
  static constexpr std::size_t kLeast = 64 * 1024;    ///< bytes; smaller ones are not lent
  static constexpr std::size_t kRefusals = 256;       ///< before the user's share is tried again

  struct Return {
    PipePool* pool = nullptr;
    void operator()(Pipe* pipe) const { pool->take_back(std::unique_ptr<Pipe>(pipe)); }
  };
  /// Returns the pipe at its end; a pipe that still holds bytes is closed, never lent again.
  using Lease = std::unique_ptr<Pipe, Return>;

  PipePool() = default;
  PipePool(const PipePool&) = delete;
  PipePool& operator=(const PipePool&) = delete;
  ~PipePool() { assert(leased_ == 0); }

  /// @return nothing when all are leased, the user's share is used up, by whatever program, or the
  /// process has no descriptors left: copy instead.
  [[nodiscard]] Lease lease();
  [[nodiscard]] std::size_t leased() const { return leased_; }
  [[nodiscard]] std::size_t idle() const { return idle_.size(); }

 private:
  [[nodiscard]] std::unique_ptr<Pipe> take_idle();
  [[nodiscard]] std::unique_ptr<Pipe> make_large_enough();
  void take_back(std::unique_ptr<Pipe> pipe);

  std::vector<std::unique_ptr<Pipe>> idle_;
  std::size_t leased_ = 0;
  std::size_t refusals_left_ = 0;
};

}  // namespace portfwd
