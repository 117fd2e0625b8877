// Queries to the kernel about the TCP, UDP and Unix sockets of one network namespace: all
// listeners, or the one IP socket with given addresses. The namespace is the one in which the
// netlink socket was made, whichever process holds it. Owned by a port watch (dumps) and by the
// identification of clients (lookups).
//
// For TCP only LISTEN is ever dumped: the kernel then walks the listening hash alone, and the cost
// does not grow with connections. For UDP and Unix sockets it walks all sockets of the namespace
// and returns those in the requested state.
// Source: sock_diag(7), linux/inet_diag.h, linux/unix_diag.h, net/ipv4/inet_diag.c,
// net/ipv4/udp_diag.c, net/unix/diag.c.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "kernel/netlink.h"
#include "net/address.h"

namespace portfwd {

/// One socket as the kernel describes it.
struct DiagSocket {
  Endpoint local;
  Endpoint remote;
  std::uint8_t state = 0;   ///< as netinet/tcp.h numbers them; for UDP see kUdpUnconnected
  bool v6only = false;      ///< always false for IPv4
  std::uint32_t uid = 0;    ///< in the user namespace of the process that opened the netlink socket
  std::uint32_t inode = 0;  ///< 0 when no process holds the socket any longer
  std::uint64_t cookie = 0;     ///< SO_COOKIE: unique on this machine until it reboots
  std::uint64_t cgroup_id = 0;  ///< inode of the cgroup that created it; 0 on kernels before 5.9

  friend bool operator==(const DiagSocket&, const DiagSocket&) = default;
};

/// The owner of a socket whose owner is not known.
inline constexpr std::uint32_t kUnknownUid = ~std::uint32_t{0};

/// One Unix socket that accepts connections, as the kernel describes it.
struct DiagUnixSocket {
  Address name;  ///< UnixPath or AbstractName: what bind(2) was given, not where its file is now
  SocketType type = SocketType::Stream;
  std::uint32_t uid = 0;         ///< as DiagSocket::uid
  std::uint32_t inode = 0;       ///< of the socket, as DiagSocket::inode
  std::uint64_t cookie = 0;      ///< as DiagSocket::cookie
  std::uint64_t device = 0;      ///< of the file that bind(2) made, as st_dev; 0 if abstract
  std::uint32_t file_inode = 0;  ///< of that file: the low 32 bits of st_ino; 0 if abstract
  std::uint32_t backlog = 0;     ///< as listen(2) was given it, within the kernel's limits

  friend bool operator==(const DiagUnixSocket&, const DiagUnixSocket&) = default;
};

/// Most Unix listeners of one namespace that are read; a program may make any number.
inline constexpr std::size_t kMostUnixListeners = 4096;

/// TCP_CLOSE: a UDP socket that is bound and receives from any peer. Source: net/ipv4/udp.c,
/// datagram.c.
inline constexpr std::uint8_t kUdpUnconnected = 7;

/// @param payload of a TCPDIAG_GETSOCK or SOCK_DIAG_BY_FAMILY message. Unknown attributes are
/// skipped. @return nothing when it is too short or of a family other than IPv4 and IPv6
[[nodiscard]] std::optional<DiagSocket> parse_diag_socket(netlink::Bytes payload);

/// @param payload of a SOCK_DIAG_BY_FAMILY message of the family AF_UNIX
/// @return nothing for a socket that does not accept connections (another type or state, or shut
/// down), and for a message that is too short or has no valid name
[[nodiscard]] std::optional<DiagUnixSocket> parse_diag_unix_socket(netlink::Bytes payload);

/// The owner of the socket with an exact pair of addresses. The uid counts only for a live socket:
/// a socket whose process has closed it has uid 0 and inode 0.
struct SocketOwner {
  std::uint32_t uid = 0;
  std::uint32_t inode = 0;
  std::uint8_t state = 0;
};

class SockDiag {
 public:
  /// @param socket a NETLINK_SOCK_DIAG socket, used for nothing else and in no multicast group
  explicit SockDiag(UniqueFd socket) : socket_(std::move(socket)) {}
  /// Opens a socket in the caller's own network namespace.
  [[nodiscard]] static Result<SockDiag> open();

  /// All sockets in LISTEN state, or the UDP sockets that are bound and not connected; IPv4 and
  /// IPv6, in the kernel's order. Synchronous, 10-25 µs for a few; the cost grows with their number
  /// and with the machine's memory (hash buckets).
  /// @return ENOENT: tcp_diag or udp_diag is missing. EAGAIN: interrupted repeatedly. ENOBUFS:
  /// memory is short
  [[nodiscard]] Result<std::vector<DiagSocket>> listeners(Protocol protocol = Protocol::Tcp);

  /// The Unix sockets that accept connections, in the kernel's order, at most kMostUnixListeners.
  /// Synchronous; 30 µs, and 0.5 ms in a namespace with 10000 Unix sockets of any kind.
  /// @return as listeners(); ENOENT: unix_diag is missing
  [[nodiscard]] Result<std::vector<DiagUnixSocket>> unix_listeners();

  /// UDP sockets that are connected to one peer, the daemon's own included. As listeners(), but the
  /// cost grows with the number of connected ones.
  [[nodiscard]] Result<std::vector<DiagSocket>> connected_datagrams();

  /// TCP: the socket bound to `local` and connected to `remote`, which may be in TIME_WAIT; else a
  /// listener that accepts connections to `local`, with the state TCP_LISTEN. UDP: the socket that
  /// would receive a datagram from `remote` to `local`. Synchronous: the kernel answers within the
  /// sending call. @return nothing when there is none
  [[nodiscard]] Result<std::optional<SocketOwner>> lookup(const Endpoint& local,
                                                          const Endpoint& remote,
                                                          Protocol protocol = Protocol::Tcp);

  /// Checks that dumps work (tcp_diag, udp_diag and unix_diag are modules on many kernels): opens a
  /// socket on a free port of 127.0.0.1, or with an abstract name that the kernel chooses, and
  /// looks for it in a dump. Must be called in the network namespace in which the netlink socket
  /// was made.
  [[nodiscard]] Result<void> self_test(Protocol protocol = Protocol::Tcp);

 private:
  template <class Socket>
  struct Dump {
    std::vector<Socket> sockets;
    bool interrupted = false;  ///< the set changed meanwhile or a message was lost: dump again
  };
  using IpDump = Dump<DiagSocket>;
  template <class Ask>
  [[nodiscard]] auto dump_whole(const Ask& ask)
      -> Result<decltype(std::declval<Ask>()().value().sockets)>;
  [[nodiscard]] Result<IpDump> dump_listeners(Protocol protocol);
  [[nodiscard]] Result<IpDump> dump_all_families();
  [[nodiscard]] Result<IpDump> dump_families(Protocol protocol, std::uint8_t state);
  [[nodiscard]] Result<IpDump> dump_family(Protocol protocol, std::uint8_t state, Family family);
  [[nodiscard]] Result<Dump<DiagUnixSocket>> dump_unix_listeners();
  template <class Socket, class Add>
  [[nodiscard]] Result<void> collect(std::uint32_t sequence, Dump<Socket>& into, const Add& add);
  template <class Request>
  [[nodiscard]] Result<std::uint32_t> send(std::uint16_t type, std::uint16_t flags,
                                           const Request& request);
  void discard_queued();

  UniqueFd socket_;
  std::uint32_t sequence_ = 0;
  bool one_pass_ = true;  ///< the old request dumps both families at once, for half the cost
};

/// The number by which dumps and /proc/net/tcp identify a socket while a process has it open; the
/// inode that fstat(2) returns. Source: sock_i_ino in net/core/sock.c.
[[nodiscard]] Result<std::uint32_t> socket_inode(int fd);

/// The number by which dumps and destroy events identify a socket. Source: socket(7), SO_COOKIE.
[[nodiscard]] Result<std::uint64_t> socket_cookie(int fd);

// Whether the kernel answers queries about TCP, UDP and Unix sockets: tcp_diag, udp_diag, inet_diag
// and unix_diag are modules on many kernels, and may be kept from loading or be missing until the
// next boot.
// Owned by main. Probes at the start and, while a module is missing, every kPause. Code that needs
// an answer must check here first: each query about a missing module makes the kernel start
// modprobe.
//
// For the clients of ports there is no substitute. /proc/net/tcp has owner and inode of a client
// too, but each read walks every socket of the namespace, whichever user made it: 13 ms with hardly
// any, 65 ms with 8000 more (measured on 6.18, 262144 buckets). Any local user can make more, and
// each client costs a read.
class DiagModules {
 public:
  static constexpr Duration kPause = std::chrono::seconds(30);

  /// Queries the kernel about a socket of this protocol, as SockDiag::self_test() does.
  using Probe = std::move_only_function<Result<void>(Protocol)>;
  DiagModules(EventLoop& loop, Probe probe);
  DiagModules(const DiagModules&) = delete;
  DiagModules& operator=(const DiagModules&) = delete;

  /// @param on_change called from the loop when the result of of() has changed
  void set_observer(std::function<void()> on_change) { on_change_ = std::move(on_change); }

  /// Result of the last probe.
  [[nodiscard]] const Result<void>& of(Protocol protocol) const {
    return found_[static_cast<std::size_t>(protocol)];
  }
  /// What a missing module means, with the remedy; "" when it is there. TCP and UDP: for clients
  /// that must be identified.
  [[nodiscard]] std::string trouble(Protocol protocol) const;

 private:
  void probe_modules();

  Probe probe_;
  std::function<void()> on_change_ = [] {};
  std::array<Result<void>, 3> found_;  ///< by protocol
  Timer again_;
};

}  // namespace portfwd
