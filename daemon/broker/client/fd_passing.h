// Messages with descriptors over a SOCK_SEQPACKET socket, never blocking. The caller owns the
// socket; what arrives is owned by the result. It knows nothing of what the bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd {

/// @param fds copies of them go along, at most 253. EAGAIN when the peer does not keep up. Source:
/// unix(7).
Result<void> send_with_fds(int socket, std::span<const std::byte> bytes, std::span<const int> fds);

struct ReceivedMessage {
  enum class Outcome : std::uint8_t { Message, Nothing, End };
  Outcome outcome = Outcome::Nothing;
  std::size_t size = 0;        ///< bytes stored
  bool bytes_cut_off = false;  ///< the message was longer than the buffer
  bool fds_cut_off = false;    ///< descriptors were lost: our RLIMIT_NOFILE is reached
  std::vector<UniqueFd> fds;   ///< close-on-exec
};
/// Takes one message and up to SCM_MAX_FD descriptors. An empty message counts as the end, since
/// the kernel tells them apart for nobody.
[[nodiscard]] ReceivedMessage receive_with_fds(int socket, std::span<std::byte> buffer);

}  // namespace portfwd
