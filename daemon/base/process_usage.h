// Resource usage of this process, for `status`: processor time, memory, descriptors.
#pragma once

#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace portfwd {

struct ProcessUsage {
  Duration cpu{};                              ///< user and system time since the start
  std::optional<std::int64_t> resident_bytes;  ///< nothing when /proc cannot be read
  std::optional<std::int64_t> open_fds;        ///< nothing when /proc cannot be read
  std::int64_t max_fds = 0;                    ///< the soft limit in force
};

/// Source: getrusage(2), proc(5) (statm, fd).
[[nodiscard]] ProcessUsage process_usage();

/// CPU time used by the calling thread. Unlike a clock it does not advance while others run.
/// Source: clock_gettime(2), CLOCK_THREAD_CPUTIME_ID.
[[nodiscard]] Duration thread_cpu_time();

}  // namespace portfwd
