// Protocol between the daemon and a broker over a SOCK_SEQPACKET pair: one fixed-size Request a
// message, one Reply to each, in order. It is all that the two programs share, and includes nothing
// of either. A request carries at most one descriptor, whose meaning its Op gives; a reply carries
// the descriptors that were made. Both are passed as SCM_RIGHTS. Source: unix(7).
//
// The two programs are installed together, so there is no negotiation: a version other than one's
// own is an error, and every change of a struct raises kVersion.
#pragma once

#include <cstddef>
#include <cstdint>

namespace portfwd::broker {

inline constexpr std::uint32_t kVersion = 1;
inline constexpr int kSocketFd = 3;              ///< where a broker finds its end of the pair
inline constexpr std::uint32_t kMaxCount = 253;  ///< SCM_MAX_FD: descriptors that one message holds
inline constexpr std::size_t kPathSize = 256;    ///< with the NUL at its end

/// The operation, and the descriptor that it needs.
enum class Op : std::uint32_t {
  Join = 1,     ///< must be first, once. fd: the user namespace to enter; none: the one it is in
  Sockets,      ///< `count` sockets of family, type, protocol; of TCP: tuned for relays, with
                ///< TCP_NODELAY, SO_OOBINLINE, and reno for bbr. fd: a network namespace or none
  Listen,       ///< one socket bound to address and port, listening if a stream. fd: as Sockets
  UnixConnect,  ///< one connected Unix stream socket. fd: the root in which `path` is looked up
  UnixListen,   ///< one listening Unix stream socket, `path` made for it. fd: as UnixConnect
};
inline constexpr auto kLastOp = Op::UnixListen;

/// Where a broker waits between requests.
enum class Home : std::uint32_t {
  Private,  ///< an empty network namespace of its own, so that it pins none of a container
  Here,     ///< where it was started (a helper container): no capability kept, no fd taken
};

/// Fields that an Op does not name are ignored.
struct Request {
  std::uint32_t version = kVersion;
  std::uint32_t id = 0;  ///< comes back in the reply; never 0
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
  std::uint32_t uid = 0;       ///< UnixListen: owner of the path, as the user namespace counts
  std::uint32_t gid = 0;       ///< UnixListen
  std::uint32_t mode = 0;      ///< UnixListen: permission bits, 0 ... 0777
  char path[kPathSize]{};      ///< Unix*: NUL-terminated, absolute in the root that goes along
};

/// The step that failed, for a message that names it.
enum class Step : std::uint32_t {
  None,
  Request,  ///< the request itself was nonsense
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
  std::uint32_t id = 0;    ///< 0 when the request was too mangled to have one
  std::int32_t error = 0;  ///< 0 or a positive errno
  Step step = Step::None;
  std::uint32_t count = 0;
};

// Protocol between the daemon and a reader, the process that reads what may block for ever. It uses
// a SOCK_SEQPACKET pair as a broker does: one request a message, and to each one or more replies,
// in the order of the requests. The first request is Join.
//
// A request is a ReadRequest and its payload. A reply is a ReadReply and its bytes; the one with
// `last` set, or with an error, is the last to its request.

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

// Protocol between the daemon and a writer, the process that replaces one file: one request, the
// path with its NUL and a descriptor of the text to write, and one reply.

inline constexpr const char* kWriterArgument =
    "--writer";                                       ///< argv[1] of a broker that is a writer
inline constexpr std::size_t kWritePathLimit = 4096;  ///< with its NUL, as PATH_MAX

enum class WriteStep : std::uint32_t { None, Request, Folder, Unlink, Open, Write, Sync, Rename };

struct WriteReply {
  std::int32_t error = 0;  ///< 0 or a positive errno
  WriteStep step = WriteStep::None;
};

}  // namespace portfwd::broker
