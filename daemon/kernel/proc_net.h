// The files of /proc/PID/net as text: opened safely, read from the start, cut into words. Shared by
// the readers of sockstat, snmp and tcp. It knows nothing of what the files say.
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

/// /proc/PID/net/FILE. An open one pins the namespace and goes on telling of it, whatever becomes
/// of the process. Test: ProcNetFacts.AnOpenFileOutlivesItsProcess
[[nodiscard]] Result<UniqueFd> open(pid_t pid, const char* file);

/// Whether the process is in that namespace, as far as can be seen: of another user's process it
/// cannot, and the answer is yes. @param netns 0: not known, the answer is yes
[[nodiscard]] bool is_in(pid_t pid, std::uint64_t netns);

/// @return what the file says from its start on, as much as fits into `buffer`
[[nodiscard]] Result<std::string_view> read(int fd, std::span<char> buffer);

/// The whole file from its start on, however long.
[[nodiscard]] Result<std::string> read_all(int fd);

/// Takes the next line off `text`, without its newline.
[[nodiscard]] std::string_view next_line(std::string_view& text);
/// Takes the next word off `line`; empty at the end.
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

// The addresses of a network namespace, from /proc/PID/net/fib_trie and if_inet6 of a process in
// it: world-readable, so known for another user's container too. Read anew each time, some 30 µs: a
// container gets and loses networks while it runs.
// Source: net/ipv4/fib_trie.c (fib_trie_seq_show), net/ipv6/addrconf.c (if6_seq_show).
/// Host routes of type LOCAL: the namespace's own IPv4 addresses, loopback left out.
[[nodiscard]] std::vector<IpAddress> parse_fib_trie(std::string_view text);
/// Addresses of global scope (unique local ones too) that are in use: neither tentative nor found
/// to be somebody else's.
[[nodiscard]] std::vector<IpAddress> parse_if_inet6(std::string_view text);

class ProcNetAddresses {
 public:
  /// @param pid a process in the namespace, of any user
  [[nodiscard]] static Result<ProcNetAddresses> open(pid_t pid);
  /// IPv4 first; none when they cannot be read.
  [[nodiscard]] std::vector<IpAddress> read() const;

 private:
  ProcNetAddresses(UniqueFd v4, UniqueFd v6) : v4_(std::move(v4)), v6_(std::move(v6)) {}
  UniqueFd v4_;
  UniqueFd v6_;  ///< invalid on a kernel without IPv6
};

// Listeners from /proc/PID/net/{tcp,udp}{,6}: what is left where no sock_diag socket can be had
// (another user's container, no tcp_diag in the kernel). World-readable, but each read walks every
// socket of the machine, some 4 ms: read seldom, behind a Sockstat. No cookie, no v6only, no
// cgroup. Source: proc(5), net/ipv4/tcp_ipv4.c, net/ipv4/udp.c.
/// The rows, in whatever state; lines that are none are skipped. The uid is as the reader counts.
[[nodiscard]] std::vector<DiagSocket> parse_socket_table(std::string_view text, Family family);

class ProcNetSockets {
 public:
  /// @param netns see Sockstat::open
  [[nodiscard]] static Result<ProcNetSockets> open(pid_t pid, std::uint64_t netns = 0,
                                                   Protocol protocol = Protocol::Tcp);
  /// Of the same open files, so of the same namespace for good.
  [[nodiscard]] Result<ProcNetSockets> copy() const;
  /// See SockDiag::listeners.
  [[nodiscard]] Result<std::vector<DiagSocket>> listeners() const;
  /// Whether this end of a connection is in the namespace, in whatever state. A client whose
  /// handshake is over finds its far end here even when the server has closed it already.
  /// Fact: ProcNetFacts.AConnectionIsShownInTheNamespaceOfItsEnd
  [[nodiscard]] Result<bool> has_connection(const Endpoint& local, const Endpoint& remote) const;
  /// Whether any socket in the namespace has that port as its far end's, in whatever state.
  [[nodiscard]] Result<bool> has_remote_port(Port port) const;

 private:
  [[nodiscard]] Result<std::vector<DiagSocket>> read() const;

  ProcNetSockets(UniqueFd v4, UniqueFd v6, std::uint8_t listening)
      : v4_(std::move(v4)), v6_(std::move(v6)), listening_(listening) {}
  UniqueFd v4_;
  UniqueFd v6_;             ///< invalid on a kernel without IPv6
  std::uint8_t listening_;  ///< the state of those that hear everybody
};

// How many TCP and UDP sockets a network namespace has in use, for 3 µs a look: net/sockstat{,6} of
// one of its processes, kept open. Owned by a port watch, which dumps only when a count has moved.
// An open file of /proc/PID/net pins the namespace: it must be closed with the container.
// Source: net/ipv4/proc.c, net/ipv6/proc.c.
/// Of TCP listeners and connections, those in TIME_WAIT excluded. IPv4 clients of an IPv6 wildcard
/// count as IPv6.
struct SocketsInUse {
  std::uint32_t tcp = 0;
  std::uint32_t tcp6 = 0;
  std::uint32_t udp = 0;  ///< bound ones, connected or not
  std::uint32_t udp6 = 0;
  [[nodiscard]] bool none() const { return *this == SocketsInUse{}; }
  friend bool operator==(const SocketsInUse&, const SocketsInUse&) = default;
};

/// The number in the line "LABEL: inuse N ...". @param label "TCP" or "TCP6"
[[nodiscard]] std::optional<std::uint32_t> parse_in_use(std::string_view text,
                                                        std::string_view label);

class Sockstat {
 public:
  /// @param pid a process in the namespace, of any user
  /// @param netns inode that the namespace must have where it can be seen, which tells a pid used
  /// again; 0: not known. ESRCH: the process is gone or elsewhere now.
  [[nodiscard]] static Result<Sockstat> open(pid_t pid, std::uint64_t netns = 0);

  /// @param udp false: those of UDP are not counted
  [[nodiscard]] Result<SocketsInUse> read(bool udp = false) const;

 private:
  Sockstat(UniqueFd v4, UniqueFd v6) : v4_(std::move(v4)), v6_(std::move(v6)) {}

  UniqueFd v4_;
  UniqueFd v6_;  ///< invalid on a kernel without IPv6
};

}  // namespace portfwd
