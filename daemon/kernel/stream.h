// System calls on stream sockets as values: how much moved, or why nothing did. Stateless; called
// by pumps, pipes and dialers. It knows nothing of who is at the other end.
#pragma once

#include <cstddef>
#include <span>

#include "net/endpoint.h"

namespace portfwd {

/// What one non-blocking call achieved. All but Failed are ordinary.
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

}  // namespace portfwd
