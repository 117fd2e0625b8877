// Netlink messages as values: walks the messages and attributes of a datagram, and receives
// datagrams that come from the kernel. Parsing is pure: bytes in, values out; headers are copied,
// and every length is checked before it is used. No protocol above the headers is known here.
// Source: netlink(7), linux/netlink.h.
#pragma once

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd::netlink {

using Bytes = std::span<const std::byte>;

/// Copies the first sizeof(T) bytes. @return nothing when there are fewer
template <class T>
requires std::is_trivially_copyable_v<T>
[[nodiscard]] std::optional<T> copy_header(Bytes bytes) {
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

struct Message {
  nlmsghdr header;
  Bytes payload;  ///< borrowed from the datagram; follows the header, without padding
};

/// Walks the messages of one datagram.
class Messages {
 public:
  explicit Messages(Bytes datagram) : rest_(datagram) {}
  /// @return nothing at the end, and after a message whose length is invalid
  [[nodiscard]] std::optional<Message> next();
  /// Whether bytes were left that are not a message: the datagram may be incomplete.
  [[nodiscard]] bool malformed() const { return malformed_; }

 private:
  Bytes rest_;
  bool malformed_ = false;
};

struct Attribute {
  std::uint16_t type;  ///< without NLA_F_NESTED and NLA_F_NET_BYTEORDER
  Bytes payload;
};

/// Walks the attributes after a message's fixed part. A malformed attribute ends the walk; those
/// before it count, since attributes are optional.
class Attributes {
 public:
  explicit Attributes(Bytes bytes) : rest_(bytes) {}
  [[nodiscard]] std::optional<Attribute> next();

 private:
  Bytes rest_;
};

/// Status in a message NLMSG_ERROR or NLMSG_DONE. @return 0 for success (an ACK, a complete dump),
/// else a positive errno; EBADMSG when the payload is too short or is not a negative errno
[[nodiscard]] int status_of(const Message& message);

/// One received datagram. `truncated`: it was longer than the buffer and is lost.
struct Datagram {
  Bytes bytes;
  bool truncated = false;
};

/// Buffer for one datagram, meant for the stack. Grows after a truncated datagram, so that a
/// repeated request succeeds. Small, since the kernel allocates as much for every dump as the
/// reader has once offered.
class ReceiveBuffer {
 public:
  /// Never blocks. Drops datagrams from other processes: a process with CAP_NET_ADMIN in the
  /// socket's namespace, such as a container's root, may send some.
  /// @return nothing when none is queued, or after kMostForeign dropped datagrams: a socket that a
  /// broker made may be of any kind and never run empty. ENOBUFS: the kernel had to drop messages
  [[nodiscard]] Result<std::optional<Datagram>> receive(int fd);

  static constexpr int kMostForeign = 64;

 private:
  static constexpr std::size_t kInlineSize = 8192;
  [[nodiscard]] std::span<std::byte> room();

  std::vector<std::byte> grown_;
  std::array<std::byte, kInlineSize> inline_;  // not zeroed: it is written before it is read
};

/// The messages that answer one request. The kernel has queued them by the time the request is
/// sent; leftovers of an earlier request are skipped.
class Answers {
 public:
  /// @param fd borrowed @param sequence of the request
  Answers(int fd, std::uint32_t sequence) : fd_(fd), sequence_(sequence) {}
  /// @return the next message, whose payload is valid until the next call; EBADMSG when none is
  /// left although the answer has not ended; else the error of ReceiveBuffer::receive
  [[nodiscard]] Result<Message> next();
  /// Whether a datagram was truncated or malformed, so that messages may be missing.
  [[nodiscard]] bool damaged() const { return damaged_; }

 private:
  int fd_;
  std::uint32_t sequence_;
  bool damaged_ = false;
  Messages messages_{Bytes()};
  ReceiveBuffer buffer_;
};

/// Opens a non-blocking netlink socket in the caller's network namespace.
[[nodiscard]] Result<UniqueFd> open(int protocol);

}  // namespace portfwd::netlink
