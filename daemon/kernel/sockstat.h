// How many TCP and UDP sockets a network namespace has in use, for 3 µs a look: net/sockstat{,6} of
// one of its processes, kept open. Owned by a port watch, which dumps only when a count has moved.
// An open file of /proc/PID/net pins the namespace: it must be closed with the container.
// Source: net/ipv4/proc.c, net/ipv6/proc.c.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd {

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
