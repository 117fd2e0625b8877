// Queries to the kernel about the TCP and UDP sockets of one network namespace: all listeners, or
// the one socket with given addresses. The namespace is the one in which the netlink socket was
// made, whichever process holds it. Owned by a port watch (dumps) and by the identification of
// clients (lookups).
//
// For TCP only LISTEN is ever dumped: the kernel then walks the listening hash alone, and the cost
// does not grow with connections. For UDP it walks all sockets and returns those in the requested
// state.
// Source: sock_diag(7), linux/inet_diag.h, net/ipv4/inet_diag.c, net/ipv4/udp_diag.c.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
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

/// TCP_CLOSE: a UDP socket that is bound and receives from any peer. Source: net/ipv4/udp.c,
/// datagram.c.
inline constexpr std::uint8_t kUdpUnconnected = 7;

/// @param payload of a TCPDIAG_GETSOCK or SOCK_DIAG_BY_FAMILY message. Unknown attributes are
/// skipped. @return nothing when it is too short or of a family other than IPv4 and IPv6
[[nodiscard]] std::optional<DiagSocket> parse_diag_socket(netlink::Bytes payload);

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

  /// Checks that dumps work (tcp_diag and udp_diag are modules on many kernels): opens a socket on
  /// a free port of 127.0.0.1 and looks for it in a dump. Must be called in the network namespace
  /// in which the netlink socket was made.
  [[nodiscard]] Result<void> self_test(Protocol protocol = Protocol::Tcp);

 private:
  struct Dump {
    std::vector<DiagSocket> sockets;
    bool interrupted = false;  ///< the set changed meanwhile or a message was lost: dump again
  };
  template <class Ask>
  [[nodiscard]] Result<std::vector<DiagSocket>> dump_whole(const Ask& ask);
  [[nodiscard]] Result<Dump> dump_listeners(Protocol protocol);
  [[nodiscard]] Result<Dump> dump_all_families();
  [[nodiscard]] Result<Dump> dump_families(Protocol protocol, std::uint8_t state);
  [[nodiscard]] Result<Dump> dump_family(Protocol protocol, std::uint8_t state, Family family);
  [[nodiscard]] Result<void> collect(std::uint32_t sequence, std::uint8_t state, Dump& into);
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

// Whether the kernel answers queries about TCP and UDP sockets: tcp_diag, udp_diag and inet_diag
// are modules on many kernels, and may be kept from loading or be missing until the next boot.
// Owned by main. Probes at the start and, while a module is missing, every kPause. Code that needs
// an answer must check here first: each query about a missing module makes the kernel start
// modprobe.
//
// There is no substitute. /proc/net/tcp has owner and inode of a client too, but each read walks
// every socket of the namespace, whichever user made it: 13 ms with hardly any, 65 ms with 8000
// more (measured on 6.18, 262144 buckets). Any local user can make more, and each client costs a
// read.
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
  /// What it means for clients that must be identified, with the remedy; "" when they can be
  /// identified.
  [[nodiscard]] std::string trouble(Protocol protocol) const;

 private:
  void probe_modules();

  Probe probe_;
  std::function<void()> on_change_ = [] {};
  std::array<Result<void>, 3> found_;  ///< by protocol
  Timer again_;
};

}  // namespace portfwd
