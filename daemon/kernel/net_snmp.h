// How many TCP connections a network namespace has opened so far: net/snmp of one of its processes,
// kept open. 15 µs a look, so it is asked seldom. Owned by a port watch, for which it stands in for
// the number of sockets closed, which no counter tells. It pins the namespace while it is open.
// Source: net/ipv4/proc.c, RFC 4022.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd {

/// ActiveOpens + PassiveOpens. @return nothing when the text has no such columns
[[nodiscard]] std::optional<std::uint64_t> parse_tcp_opens(std::string_view text);

class NetSnmp {
 public:
  /// @param netns see Sockstat::open
  [[nodiscard]] static Result<NetSnmp> open(pid_t pid, std::uint64_t netns = 0);
  [[nodiscard]] Result<std::uint64_t> tcp_opens() const;

 private:
  explicit NetSnmp(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;
};

}  // namespace portfwd
