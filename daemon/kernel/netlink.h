// Netlink as values: walks the messages and attributes of a datagram, and receives datagrams that
// really come from the kernel. Parsing is pure: bytes in, values out, headers copied, every length
// checked before it is believed. It knows no protocol above the headers.
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

/// The first sizeof(T) bytes as a T. @return nothing when there are fewer.
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
  Bytes payload;  ///< borrowed from the datagram; what follows the header, padding excluded
};

/// Walks the messages of one datagram.
class Messages {
 public:
  explicit Messages(Bytes datagram) : rest_(datagram) {}
  /// @return nothing at the end, and from the first message on whose length is not to be believed.
  [[nodiscard]] std::optional<Message> next();
  /// Bytes were left over that are no message: the datagram is not to be trusted as complete.
  [[nodiscard]] bool malformed() const { return malformed_; }

 private:
  Bytes rest_;
  bool malformed_ = false;
};

struct Attribute {
  std::uint16_t type;  ///< without NLA_F_NESTED and NLA_F_NET_BYTEORDER
  Bytes payload;
};

/// Walks the attributes behind a message's fixed part. A broken one ends the walk: what a message
/// says before it still counts, since attributes are optional by nature.
class Attributes {
 public:
  explicit Attributes(Bytes bytes) : rest_(bytes) {}
  [[nodiscard]] std::optional<Attribute> next();

 private:
  Bytes rest_;
};

/// What NLMSG_ERROR or NLMSG_DONE says. @return 0 for success (an ACK, a complete dump), else a
/// positive errno; EBADMSG when the payload is too short or holds a positive number.
[[nodiscard]] int status_of(const Message& message);

/// One datagram as received. `truncated`: it was longer than the buffer and its rest is lost.
struct Datagram {
  Bytes bytes;
  bool truncated = false;
};

/// Room for one datagram, meant for the stack. Grows after a truncated one, so asking again helps.
/// Kept modest, since the kernel allocates as much as the reader once offered for every dump.
class ReceiveBuffer {
 public:
  /// Never blocks. Datagrams from other processes are dropped: whoever has CAP_NET_ADMIN in the
  /// socket's namespace, such as a container's root, may send some.
  /// @return nothing when none is queued, or kMostForeign that were dropped came one after another:
  /// a socket that a broker gave us may be of any kind and always have more. ENOBUFS: the kernel
  /// had to drop messages.
  [[nodiscard]] Result<std::optional<Datagram>> receive(int fd);

  static constexpr int kMostForeign = 64;

 private:
  static constexpr std::size_t kInlineSize = 8192;
  [[nodiscard]] std::span<std::byte> room();

  std::vector<std::byte> grown_;
  std::array<std::byte, kInlineSize> inline_;  // not zeroed: it is written before it is read
};

/// The messages that answer one request, which the kernel has queued by the time the request is
/// sent; leftovers of an earlier one are skipped.
class Answers {
 public:
  /// @param fd borrowed @param sequence of the request
  Answers(int fd, std::uint32_t sequence) : fd_(fd), sequence_(sequence) {}
  /// @return the next one, whose payload is good until the call after; EBADMSG: there is no more,
  /// although every answer has an end; else as ReceiveBuffer::receive
  [[nodiscard]] Result<Message> next();
  /// Something that came so far was cut off or no message: others may be missing.
  [[nodiscard]] bool damaged() const { return damaged_; }

 private:
  int fd_;
  std::uint32_t sequence_;
  bool damaged_ = false;
  Messages messages_{Bytes()};
  ReceiveBuffer buffer_;
};

/// A netlink socket in the caller's network namespace, non-blocking.
[[nodiscard]] Result<UniqueFd> open(int protocol);

}  // namespace portfwd::netlink
