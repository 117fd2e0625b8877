// Protocol between the daemon and a portfwd-relay, over a SOCK_SEQPACKET pair: one fixed-size
// Request or Report in each message, and descriptors with a request as SCM_RIGHTS. Shared by the
// two programs; the parsers are pure functions. Source: unix(7).
//
// The close(2) of the last descriptor of a relayed socket may wait for as long as its peer likes,
// so it must never be the daemon's. The daemon closes its descriptors when the message that carries
// them was sent: the message holds them from then on. The process holds what it has received until
// Released says that the daemon has closed its own.
//
// The two programs are installed together, so there is no negotiation: another version than its own
// is an error for either program, and every change of a struct must raise kVersion.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace portfwd::relay_process {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr int kSocketFd = 3;                 ///< where the process finds its end of the pair
inline constexpr std::size_t kPairFds = 2;          ///< the client's socket, then the target's
inline constexpr std::size_t kMostDiscarded = 253;  ///< SCM_MAX_FD

enum class Op : std::uint32_t {
  Pair = 1,  ///< relay `relay`, of `group`, between the two sockets that the message carries
  Discard,   ///< reset and close the 1 ... kMostDiscarded sockets that the message carries
  Released,  ///< the daemon has closed the descriptors of all messages before this one
  Abort,     ///< reset both sides of `relay`, which may have ended already
};

/// Flags of a Pair.
inline constexpr std::uint32_t kPassFds = 1;  ///< relay descriptors; for two Unix sockets only
/// Act as on a kernel before Linux 6.16, which has no SO_PASSRIGHTS. For tests.
inline constexpr std::uint32_t kWithoutPassRights = 2;
inline constexpr std::uint32_t kAllFlags = kPassFds | kWithoutPassRights;

/// Fields that the Op does not use are 0.
struct Request {
  std::uint32_t version = kVersion;
  Op op = Op::Pair;
  std::uint32_t relay = 0;  ///< Pair, Abort: not 0; a Pair's is not in use
  std::uint32_t group = 0;  ///< Pair: the relays whose bytes are counted together; not 0
  std::uint32_t flags = 0;  ///< Pair
};

enum class News : std::uint32_t {
  Accepted = 1,  ///< the next message that carried descriptors was carried out
  Ended,         ///< `relay` is over and its sockets are closed
  Counters,      ///< `group` has moved bytes
};

/// Fields that the News does not use are 0.
struct Report {
  std::uint32_t version = kVersion;
  News news = News::Accepted;
  std::uint32_t relay = 0;        ///< Ended: not 0
  std::uint32_t group = 0;        ///< Ended, Counters: not 0
  std::uint32_t failed = 0;       ///< Ended: 1 if the sockets could not be relayed
  std::uint32_t fds_refused = 0;  ///< Ended: 1 if it was reset since one side sent descriptors
  std::uint64_t bytes_in = 0;     ///< Ended, Counters: of the group, since its last report
  std::uint64_t bytes_out = 0;
};

/// Time between two reports of Counters for one group.
inline constexpr std::uint32_t kReportIntervalMs = 250;

namespace detail {
/// @return nothing unless the size and the version are right
template <class T>
std::optional<T> parse(std::span<const std::byte> bytes) {
  T message;
  if (bytes.size() != sizeof message) return std::nullopt;
  std::memcpy(&message, bytes.data(), sizeof message);
  if (message.version != kVersion) return std::nullopt;
  return message;
}
}  // namespace detail

/// @param fds number of descriptors that the message carried
/// @return nothing unless the request is valid by itself and has the descriptors that it needs
[[nodiscard]] inline std::optional<Request> parse_request(std::span<const std::byte> bytes,
                                                          std::size_t fds) {
  const auto request = detail::parse<Request>(bytes);
  if (!request) return std::nullopt;
  const Request& r = *request;
  const bool plain = r.group == 0 && r.flags == 0;
  bool valid = false;
  switch (r.op) {
    case Op::Pair:
      valid = r.relay != 0 && r.group != 0 && (r.flags & ~kAllFlags) == 0 && fds == kPairFds;
      break;
    case Op::Discard:
      valid = r.relay == 0 && plain && fds >= 1 && fds <= kMostDiscarded;
      break;
    case Op::Released:
      valid = r.relay == 0 && plain && fds == 0;
      break;
    case Op::Abort:
      valid = r.relay != 0 && plain && fds == 0;
      break;
  }
  return valid ? request : std::nullopt;
}

/// @return nothing unless the report is valid by itself
[[nodiscard]] inline std::optional<Report> parse_report(std::span<const std::byte> bytes) {
  const auto report = detail::parse<Report>(bytes);
  if (!report) return std::nullopt;
  const Report& r = *report;
  bool valid = false;
  switch (r.news) {
    case News::Accepted:
      valid = r.relay == 0 && r.group == 0 && r.failed == 0 && r.fds_refused == 0 &&
              r.bytes_in == 0 && r.bytes_out == 0;
      break;
    case News::Ended:
      valid = r.relay != 0 && r.group != 0 && r.failed <= 1 && r.fds_refused <= 1;
      break;
    case News::Counters:
      valid = r.relay == 0 && r.group != 0 && r.failed == 0 && r.fds_refused == 0;
      break;
  }
  return valid ? report : std::nullopt;
}

}  // namespace portfwd::relay_process
