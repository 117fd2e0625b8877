// Listeners from /proc/PID/net/{tcp,udp}{,6}: what is left where no sock_diag socket can be had
// (another user's container, no tcp_diag in the kernel). World-readable, but each read walks every
// socket of the machine, some 4 ms: read seldom, behind a Sockstat. No cookie, no v6only, no
// cgroup. Source: proc(5), net/ipv4/tcp_ipv4.c, net/ipv4/udp.c.
#pragma once

#include <sys/types.h>

#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "kernel/sock_diag.h"

namespace portfwd {

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

}  // namespace portfwd
