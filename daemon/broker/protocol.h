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

inline constexpr std::uint32_t kVersion = 2;
inline constexpr int kSocketFd = 3;                 ///< where a broker finds its end of the pair
inline constexpr std::uint32_t kMaxCount = 253;     ///< SCM_MAX_FD: most descriptors of one message
inline constexpr std::size_t kPathSize = 256;       ///< including the NUL
inline constexpr std::uint32_t kLongestName = 107;  ///< bytes of an abstract name
inline constexpr std::uint32_t kMostParents = 8;    ///< folders that one UnixListen makes
inline constexpr std::uint32_t kNoChange = 0xffffffff;  ///< as uid or gid: as created

/// The operation. "fd" is the descriptor that the request carries.
enum class Op : std::uint32_t {
  Join = 1,     ///< must be the first, once. fd: the user namespace to enter; none: stay
  Sockets,      ///< `count` sockets of family, type, protocol; those of TCP tuned for relays, with
                ///< TCP_NODELAY, SO_OOBINLINE, and reno instead of bbr. fd: the network namespace;
                ///< none: that of the broker
  Listen,       ///< one socket bound to address and port; a stream also listens. fd: as Sockets
  UnixConnect,  ///< one Unix socket connected to a path or an abstract name. fd of a path: the root
                ///< in which it is looked up; fd of a name: as Sockets
  UnixListen,   ///< one Unix socket bound to a path or an abstract name. fd: as UnixConnect. A file
                ///< at the path is not touched, unless it is the socket to replace
  UnixRemove,   ///< removes a path that UnixListen has bound, and the folders that it has made if
                ///< they are empty. fd: the root. Only files with the identities in `bound`
};
inline constexpr auto kLastOp = Op::UnixRemove;

/// What a broker serves, where it is between requests, and its capabilities in the user namespace.
enum class Home : std::uint32_t {
  Private,  ///< Sockets, Listen; in an empty network namespace of its own, so that it pins none of
            ///< a container. CAP_SYS_ADMIN, CAP_NET_BIND_SERVICE
  Here,     ///< Sockets, Listen, and Unix* with names; where it was started (a helper container),
            ///< no other namespace is entered. No capability
  Names,    ///< UnixConnect and UnixListen with abstract names and a network namespace; as
            ///< Private. CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID
  Paths,    ///< Unix* of a container, with paths, and with names of the network namespace where it
            ///< was started; no other is entered. CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_SETUID,
            ///< CAP_SETGID
  HostPaths,  ///< the same for the host. No capability
};
inline constexpr auto kLastHome = Home::HostPaths;

/// The identity of a file, as in stat(2). Zero: none.
struct FileId {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const FileId&, const FileId&) = default;
};

/// What UnixListen has created: the socket's path, and those of the folders on it that were
/// missing, the outermost first. The last of them is the folder of the socket.
struct BoundFile {
  FileId file;
  std::uint32_t parents = 0;  ///< 0 ... kMostParents
  std::uint32_t reserved = 0;
  FileId made[kMostParents]{};
  friend bool operator==(const BoundFile&, const BoundFile&) = default;
};

// Bits of Request::flags.
inline constexpr std::uint32_t kSetPeer = 1;  ///< UnixConnect: look up and connect as uid and gid,
                                              ///< with their permissions and without capabilities;
                                              ///< supplementary groups stay those of the broker
inline constexpr std::uint32_t kMakeParents = 2;  ///< UnixListen: make missing folders, mode 0755
inline constexpr std::uint32_t kReplace = 4;      ///< UnixListen: replace the socket `bound.file`
inline constexpr std::uint32_t kRefuseFds = 8;  ///< Unix*: SO_PASSRIGHTS 0, where the kernel has it
inline constexpr std::uint32_t kAllFlags = 15;

/// Fields that the Op does not use are ignored.
struct Request {
  std::uint32_t version = kVersion;
  std::uint32_t id = 0;  ///< repeated in the reply; never 0
  Op op = Op::Join;
  Home home = Home::Private;   ///< Join
  std::int32_t family = 0;     ///< Sockets, Listen: AF_INET, AF_INET6; Sockets also AF_NETLINK
  std::int32_t type = 0;       ///< Sockets, Listen: SOCK_STREAM, SOCK_DGRAM, SOCK_RAW;
                               ///< UnixConnect, UnixListen: SOCK_STREAM, SOCK_SEQPACKET
  std::int32_t protocol = 0;   ///< Sockets: 0, or NETLINK_SOCK_DIAG with AF_NETLINK, nothing else
  std::uint32_t count = 0;     ///< Sockets: 1 ... kMaxCount
  std::uint8_t address[16]{};  ///< Listen: network order; IPv4 uses the first four bytes
  std::uint32_t port = 0;      ///< Listen: host order, 0 for any
  std::int32_t backlog = 0;    ///< Listen, UnixListen; negative: bind only
  std::uint32_t v6only = 0;    ///< Listen: 0 or 1
  std::uint32_t uid = 0;    ///< UnixListen: owner of the path, in the user namespace of the broker,
                            ///< or kNoChange; UnixConnect: see kSetPeer
  std::uint32_t gid = 0;    ///< as uid
  std::uint32_t mode = 0;   ///< UnixListen: permission bits, 0 ... 0777
  std::uint32_t flags = 0;  ///< Unix*
  std::uint32_t name_size = 0;  ///< Unix*: size of an abstract name; 0: `path` is a path
  BoundFile bound;              ///< UnixRemove; UnixListen: see kReplace
  char path[kPathSize]{};  ///< Unix*: NUL-terminated, absolute in the root that is passed; or an
                           ///< abstract name without the leading NUL
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
  MakeFolder,
  Rename,
  Unlink,
  SetIds,
};
inline constexpr auto kLastStep = Step::SetIds;

/// The kind of a file.
enum class FileKind : std::uint32_t { None, Socket, Regular, Folder, Link, Fifo, Device };
inline constexpr auto kLastFileKind = FileKind::Device;

/// Followed by `count` descriptors; none when `error` is set.
struct Reply {
  std::uint32_t version = kVersion;
  std::uint32_t id = 0;    ///< 0 when the request was too short or too long to contain one
  std::int32_t error = 0;  ///< 0 or a positive errno
  Step step = Step::None;
  std::uint32_t count = 0;
  FileKind found = FileKind::None;  ///< UnixListen, UnixRemove that failed: another file is there;
                                    ///< UnixConnect: the path is not a socket
  BoundFile bound;                  ///< UnixListen with a path
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
