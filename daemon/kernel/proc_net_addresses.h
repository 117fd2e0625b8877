// The addresses of a network namespace, from /proc/PID/net/fib_trie and if_inet6 of a process in
// it: world-readable, so known for another user's container too. Read anew each time, some 30 µs: a
// container gets and loses networks while it runs.
// Source: net/ipv4/fib_trie.c (fib_trie_seq_show), net/ipv6/addrconf.c (if6_seq_show).
#pragma once

#include <sys/types.h>

#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/endpoint.h"

namespace portfwd {

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

}  // namespace portfwd
