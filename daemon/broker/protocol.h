// Protocol between the daemon and a broker, over a SOCK_SEQPACKET pair: one fixed-size Request in
// each message, and one Reply to each request, in order. Only this file and base/unique_fd.h are
// shared by the two programs; it includes nothing of either. A request carries at most one
// descriptor, whose meaning depends on its Op; a reply carries the descriptors that were made. Both
// are passed as SCM_RIGHTS. Source: unix(7).
//
// The two programs are installed together, so there is no negotiation: another version than its own
// is an error for either program, and every change of a struct must raise kVersion.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portfwd::broker {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr int kSocketFd = 3;              ///< where a broker finds its end of the pair
inline constexpr std::uint32_t kMaxCount = 253;  ///< SCM_MAX_FD: most descriptors of one message
inline constexpr std::size_t kPathSize = 256;    ///< including the NUL

/// The operation. "fd" is the descriptor that the request carries.
enum class Op : std::uint32_t {
  Join = 1,     ///< must be the first, once. fd: the user namespace to enter; none: stay
  Sockets,      ///< `count` sockets of family, type, protocol; those of TCP tuned for relays, with
                ///< TCP_NODELAY, SO_OOBINLINE, and reno instead of bbr. fd: the network namespace;
                ///< none: that of the broker
  Listen,       ///< one socket bound to address and port; a stream also listens. fd: as Sockets
  UnixConnect,  ///< one connected Unix stream socket. fd: the root in which `path` is looked up
  UnixListen,   ///< one listening Unix stream socket at a new `path`. fd: as UnixConnect
};
inline constexpr auto kLastOp = Op::UnixListen;

/// Network namespace of a broker between requests.
enum class Home : std::uint32_t {
  Private,  ///< an empty one of its own, so that it pins none of a container
  Here,     ///< where it was started (a helper container); no capability kept, no other entered
};

/// Fields that the Op does not use are ignored.
struct Request {
  std::uint32_t version = kVersion;
  std::uint32_t id = 0;  ///< repeated in the reply; never 0
  Op op = Op::Join;
  Home home = Home::Private;   ///< Join
  std::int32_t family = 0;     ///< Sockets, Listen: AF_INET, AF_INET6; Sockets also AF_NETLINK
  std::int32_t type = 0;       ///< Sockets, Listen: SOCK_STREAM, SOCK_DGRAM, SOCK_RAW
  std::int32_t protocol = 0;   ///< Sockets: 0, or NETLINK_SOCK_DIAG with AF_NETLINK, nothing else
  std::uint32_t count = 0;     ///< Sockets: 1 ... kMaxCount
  std::uint8_t address[16]{};  ///< Listen: network order; IPv4 uses the first four bytes
  std::uint32_t port = 0;      ///< Listen: host order, 0 for any
  std::int32_t backlog = 0;    ///< Listen, UnixListen; negative with Listen: bind only
  std::uint32_t v6only = 0;    ///< Listen: 0 or 1
  std::uint32_t uid = 0;   ///< UnixListen: owner of the path, in the user namespace of the broker
  std::uint32_t gid = 0;   ///< UnixListen
  std::uint32_t mode = 0;  ///< UnixListen: permission bits, 0 ... 0777
  char path[kPathSize]{};  ///< Unix*: NUL-terminated, absolute in the root that is passed
};

/// The step that failed, for error messages.
enum class Step : std::uint32_t {
  None,
  Request,  ///< the request itself was invalid
  JoinUser,
  MakeHome,
  Capabilities,
  Seccomp,
  EnterNet,
  Socket,
  SetOption,
  Bind,
  Listen,
  OpenPath,
  Connect,
  Chown,
};
inline constexpr auto kLastStep = Step::Chown;

/// Followed by `count` descriptors; none when `error` is set.
struct Reply {
  std::uint32_t version = kVersion;
  std::uint32_t id = 0;    ///< 0 when the request was too short or too long to contain one
  std::int32_t error = 0;  ///< 0 or a positive errno
  Step step = Step::None;
  std::uint32_t count = 0;
};

// Protocol between the daemon and a reader, the process that reads what may block forever. It uses
// a SOCK_SEQPACKET pair, like that of a broker: one request in each message, and one or more
// replies to each, in the order of the requests. The first request is Join.
//
// A request is a ReadRequest followed by its payload. A reply is a ReadReply followed by its bytes;
// the last reply to a request has `last` or an error set.

inline constexpr std::uint32_t kReaderVersion = 1;
inline constexpr const char* kReaderArgument =
    "--reader";  ///< argv[1] of a broker that is a reader

enum class ReadOp : std::uint32_t {
  /// Must be the first, once. fd: the user namespace to enter; none: stay. Payload: the folder to
  /// read processes from, NUL.
  Join = 1,
  Texts,   ///< cmdline and environ of `pid`; the bytes of the reply are both, cmdline first
  Owners,  ///< which of `pids` has which of `inodes` open. Payload: pids, then inodes
  File,    ///< a regular file. Payload: its folder, NUL, its path below that, NUL
};
inline constexpr auto kLastReadOp = ReadOp::File;

/// Privileges of a reader after Join.
enum class Purpose : std::uint32_t {
  Processes,  ///< keeps CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH if it has them
  Files,      ///< keeps no capability
};

inline constexpr std::size_t kMostPids = 4096;
inline constexpr std::size_t kMostInodes = 1024;
inline constexpr std::size_t kMostLinks = 16384;  ///< most descriptors that one Owners examines
inline constexpr std::size_t kChunk = 65536;      ///< most bytes of one reply
inline constexpr std::size_t kCommandLimit = 4096;
inline constexpr std::size_t kEnvironmentLimit = kChunk - kCommandLimit;
inline constexpr std::size_t kPathLimit = 4096;  ///< including the NUL, as PATH_MAX

struct ReadRequest {
  std::uint32_t version = kReaderVersion;
  std::uint32_t id = 0;  ///< repeated in the replies; never 0
  ReadOp op = ReadOp::Join;
  Purpose purpose = Purpose::Processes;  ///< Join
  std::int32_t pid = 0;                  ///< Texts
  std::uint32_t pids = 0;                ///< Owners: number of pids, std::int32_t each
  std::uint32_t inodes = 0;              ///< Owners: number of inodes, std::uint32_t each
  std::uint32_t owner = 0;               ///< File: uid that the file must belong to
  std::uint32_t limit = 0;               ///< File: bytes; a longer file is an error
};

inline constexpr std::size_t kMostPayload = 4 * (kMostPids + kMostInodes);
static_assert(2 * kPathLimit <= kMostPayload);

struct ReadReply {
  std::uint32_t version = kReaderVersion;
  std::uint32_t id = 0;
  std::int32_t error = 0;  ///< 0 or a positive errno
  std::uint32_t last = 1;
  std::uint32_t command = 0;            ///< Texts: length of cmdline; the rest is environ
  std::uint32_t environment_known = 0;  ///< Texts: 1 when environ could be read
};

/// Element of the bytes of a reply to Owners.
struct SocketOwner {
  std::uint32_t inode = 0;
  std::int32_t pid = 0;
};

// Protocol between the daemon and a writer, the process that replaces one file. There is one
// request, the path with its NUL and a descriptor of the text to write, and one reply.

inline constexpr const char* kWriterArgument =
    "--writer";                                       ///< argv[1] of a broker that is a writer
inline constexpr std::size_t kWritePathLimit = 4096;  ///< including the NUL, as PATH_MAX

enum class WriteStep : std::uint32_t { None, Request, Folder, Unlink, Open, Write, Sync, Rename };

struct WriteReply {
  std::int32_t error = 0;  ///< 0 or a positive errno
  WriteStep step = WriteStep::None;
};

}  // namespace portfwd::broker
