// Files of /proc/PID/net: opened, read from the start, parsed. Every user may read them for every
// process, so they serve where a network namespace cannot be entered.
#pragma once

#include <sys/types.h>

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "kernel/sock_diag.h"
#include "net/address.h"

namespace portfwd::proc_net {

/// Opens /proc/PID/net/FILE. An open file pins the namespace and can be read after the process has
/// ended. Test: ProcNetLifetime.AnOpenFileOutlivesItsProcess
[[nodiscard]] Result<UniqueFd> open(pid_t pid, const char* file);

/// Whether the process is in that namespace. True when it cannot be determined, as for another
/// user's process. @param netns inode; 0: not known, so true
[[nodiscard]] bool is_in(pid_t pid, std::uint64_t netns);

/// @return the beginning of the file, as much as fits into `buffer`
[[nodiscard]] Result<std::string_view> read(int fd, std::span<char> buffer);

/// Reads the whole file, or the beginning of a file that is longer than `most` bytes.
[[nodiscard]] Result<std::string> read_all(int fd, std::size_t most = std::string::npos);

/// Removes the next line from `text` and returns it without its newline.
[[nodiscard]] std::string_view next_line(std::string_view& text);
/// Removes the next word from `line` and returns it; empty at the end.
[[nodiscard]] std::string_view next_word(std::string_view& line);

template <std::unsigned_integral T>
[[nodiscard]] std::optional<T> number(std::string_view word, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, base);
  if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}
}  // namespace portfwd::proc_net

namespace portfwd {

/// Parses host routes of type LOCAL: the namespace's own IPv4 addresses, without loopback.
[[nodiscard]] std::vector<IpAddress> parse_fib_trie(std::string_view text);
/// Parses the addresses of global scope (unique local ones too) that are in use: neither tentative
/// nor found to be another host's.
[[nodiscard]] std::vector<IpAddress> parse_if_inet6(std::string_view text);

// The addresses of a network namespace, from /proc/PID/net/fib_trie and if_inet6 of a process in
// it. Read on each call, in about 30 µs: a container is attached to and detached from networks
// while it runs.
// Source: net/ipv4/fib_trie.c (fib_trie_seq_show), net/ipv6/addrconf.c (if6_seq_show).
class ProcNetAddresses {
 public:
  /// @param pid a process in the namespace, of any user
  [[nodiscard]] static Result<ProcNetAddresses> open(pid_t pid);
  /// IPv4 first; empty when they cannot be read.
  [[nodiscard]] std::vector<IpAddress> read() const;

 private:
  ProcNetAddresses(UniqueFd v4, UniqueFd v6) : v4_(std::move(v4)), v6_(std::move(v6)) {}
  UniqueFd v4_;
  UniqueFd v6_;  ///< invalid on a kernel without IPv6
};

/// The rows of /proc/PID/net/{tcp,udp}{,6} in any state; malformed lines are skipped. The uid is
/// that in the reader's user namespace.
[[nodiscard]] std::vector<DiagSocket> parse_socket_table(std::string_view text, Family family);

// Listeners from /proc/PID/net/{tcp,udp}{,6}, where no sock_diag socket is available (another
// user's container, no tcp_diag in the kernel). Each read walks every socket of the machine, in
// about 4 ms: read rarely, when a Sockstat has changed. The rows have no cookie, no v6only and no
// cgroup.
// Source: proc(5), net/ipv4/tcp_ipv4.c, net/ipv4/udp.c.
class ProcNetSockets {
 public:
  /// @param netns see Sockstat::open
  [[nodiscard]] static Result<ProcNetSockets> open(pid_t pid, std::uint64_t netns = 0,
                                                   Protocol protocol = Protocol::Tcp);
  /// A copy that uses the same open files, so the same namespace.
  [[nodiscard]] Result<ProcNetSockets> copy() const;
  /// See SockDiag::listeners.
  [[nodiscard]] Result<std::vector<DiagSocket>> listeners() const;
  /// Whether this end of a connection is in the namespace, in any state. The peer of a client whose
  /// handshake is complete is found even when the server has already closed it.
  /// Fact: ProcNetFacts.AConnectionIsShownInTheNamespaceOfItsEnd
  [[nodiscard]] Result<bool> has_connection(const Endpoint& local, const Endpoint& remote) const;
  /// Whether any socket in the namespace has a peer with that port, in any state.
  [[nodiscard]] Result<bool> has_remote_port(Port port) const;

 private:
  [[nodiscard]] Result<std::vector<DiagSocket>> read() const;

  ProcNetSockets(UniqueFd v4, UniqueFd v6, std::uint8_t listening)
      : v4_(std::move(v4)), v6_(std::move(v6)), listening_(listening) {}
  UniqueFd v4_;
  UniqueFd v6_;             ///< invalid on a kernel without IPv6
  std::uint8_t listening_;  ///< the state of listeners, and of UDP sockets without a peer
};

/// The rows of /proc/PID/net/unix that accept connections, at most kMostUnixListeners; malformed
/// lines are skipped. Owner, cookie, file and backlog are not shown there. The names are hints: the
/// kernel writes '@' for each NUL byte, so a path that begins with '@' looks like an abstract name,
/// and a name with a newline looks like two rows.
[[nodiscard]] std::vector<DiagUnixSocket> parse_unix_table(std::string_view text);

// Unix listeners from /proc/PID/net/unix, where no sock_diag socket is available, or not yet: every
// user may read it, and no broker is needed. Reads at most 4 MiB, or some 50000 sockets.
// Source: proc(5), net/unix/af_unix.c (unix_seq_show).
class ProcNetUnix {
 public:
  /// @param netns see Sockstat::open
  [[nodiscard]] static Result<ProcNetUnix> open(pid_t pid, std::uint64_t netns = 0);
  [[nodiscard]] Result<std::vector<DiagUnixSocket>> listeners() const;

 private:
  explicit ProcNetUnix(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;
};

/// Number of sockets that a network namespace has in use. TCP: listeners and connections, except
/// those in TIME_WAIT. IPv4 clients of an IPv6 wildcard count as IPv6.
struct SocketsInUse {
  std::uint32_t tcp = 0;
  std::uint32_t tcp6 = 0;
  std::uint32_t udp = 0;  ///< bound, connected or not; 0 when not asked for
  std::uint32_t udp6 = 0;
  /// All other sockets of the namespace: those of other families, Unix above all, and IP sockets
  /// that have been made only. Nearly exact while sockets close.
  std::uint32_t others = 0;

  [[nodiscard]] bool same_ports(const SocketsInUse& other) const {
    return tcp == other.tcp && tcp6 == other.tcp6 && udp == other.udp && udp6 == other.udp6;
  }
  [[nodiscard]] bool no_ports() const { return same_ports({}); }
  friend bool operator==(const SocketsInUse&, const SocketsInUse&) = default;
};

/// The number in the line "LABEL: inuse N ...", or "sockets: used N". @param label such as "TCP",
/// "UDP6" or "sockets"
[[nodiscard]] std::optional<std::uint32_t> parse_in_use(std::string_view text,
                                                        std::string_view label);

// Reads SocketsInUse in 3 µs, from net/sockstat{,6} of a process in the namespace; the files are
// kept open. Owned by a port watch, which dumps only when a count has changed. An open file of
// /proc/PID/net pins the namespace, so it must be closed with the container. Source:
// net/ipv4/proc.c, net/ipv6/proc.c.
class Sockstat {
 public:
  /// @param pid a process in the namespace, of any user
  /// @param netns inode that the namespace must have, where it can be determined, so that a reused
  /// pid is detected; 0: not known. ESRCH: the process has ended or is in another namespace.
  [[nodiscard]] static Result<Sockstat> open(pid_t pid, std::uint64_t netns = 0);

  /// @param udp whether to count UDP sockets
  [[nodiscard]] Result<SocketsInUse> read(bool udp = false) const;

 private:
  Sockstat(UniqueFd v4, UniqueFd v6) : v4_(std::move(v4)), v6_(std::move(v6)) {}

  UniqueFd v4_;
  UniqueFd v6_;  ///< invalid on a kernel without IPv6
};

}  // namespace portfwd
