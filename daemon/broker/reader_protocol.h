// The messages between the daemon and a reader: the process that reads what may never answer. Both
// programs share this file. It is a SOCK_SEQPACKET pair as a broker's: one request a message, and
// to each one or more replies, in the order of the requests. The first request is Join.
//
// A request is a ReadRequest and its payload. A reply is a ReadReply and its bytes; the one that
// has `last` set, or an error, is the last of its request.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portfwd::broker {

inline constexpr std::uint32_t kReaderVersion = 1;
inline constexpr const char* kReaderArgument =
    "--reader";  ///< argv[1] of a broker that is a reader

enum class ReadOp : std::uint32_t {
  /// Must be first, once. fd: the user namespace to enter; none: the one it is in. Payload: the
  /// folder to read processes from, NUL.
  Join = 1,
  Texts,   ///< cmdline and environ of `pid`; both in the reply's bytes, cmdline first
  Owners,  ///< which of `pids` has which of `inodes` open: both are the payload, pids first
  File,    ///< a regular file; payload: its folder, NUL, its path below that, NUL
};
inline constexpr auto kLastReadOp = ReadOp::File;

/// What a reader may do for the rest of its life.
enum class Purpose : std::uint32_t {
  Processes,  ///< keeps CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, where it has them
  Files,      ///< keeps no capability
};

inline constexpr std::size_t kMostPids = 4096;
inline constexpr std::size_t kMostInodes = 1024;
inline constexpr std::size_t kMostLinks = 16384;  ///< descriptors that one Owners looks at
inline constexpr std::size_t kChunk = 65536;      ///< bytes that one reply carries
inline constexpr std::size_t kCommandLimit = 4096;
inline constexpr std::size_t kEnvironmentLimit = kChunk - kCommandLimit;
inline constexpr std::size_t kPathLimit = 4096;  ///< with its NUL, as PATH_MAX

struct ReadRequest {
  std::uint32_t version = kReaderVersion;
  std::uint32_t id = 0;  ///< comes back in the replies; never 0
  ReadOp op = ReadOp::Join;
  Purpose purpose = Purpose::Processes;  ///< Join
  std::int32_t pid = 0;                  ///< Texts
  std::uint32_t pids = 0;                ///< Owners: how many std::int32_t
  std::uint32_t inodes = 0;              ///< Owners: how many std::uint32_t
  std::uint32_t owner = 0;               ///< File: uid that the file must belong to
  std::uint32_t limit = 0;               ///< File: bytes; a longer one is an error
};

inline constexpr std::size_t kMostPayload = 4 * (kMostPids + kMostInodes);
static_assert(2 * kPathLimit <= kMostPayload);

struct ReadReply {
  std::uint32_t version = kReaderVersion;
  std::uint32_t id = 0;
  std::int32_t error = 0;  ///< 0 or a positive errno
  std::uint32_t last = 1;
  std::uint32_t command = 0;            ///< Texts: bytes of the cmdline; the rest is environ
  std::uint32_t environment_known = 0;  ///< Texts: 1 when environ could be read
};

/// One of the bytes of a reply to Owners.
struct SocketOwner {
  std::uint32_t inode = 0;
  std::int32_t pid = 0;
};

}  // namespace portfwd::broker
