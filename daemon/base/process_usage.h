// What this process costs, for `status`: processor time, memory, descriptors.
#pragma once

#include <cstdint>

#include "base/clock.h"

namespace portfwd {

struct ProcessUsage {
  Duration cpu{};                   ///< user and system time since the start
  std::int64_t resident_bytes = 0;  ///< 0 when /proc can't be read
  std::int64_t open_fds = 0;
  std::int64_t max_fds = 0;  ///< the soft limit in force
};

/// Source: getrusage(2), proc(5) (statm, fd).
[[nodiscard]] ProcessUsage process_usage();

/// CPU time that the calling thread has used: unlike a clock it stands still while others run.
/// Source: clock_gettime(2), CLOCK_THREAD_CPUTIME_ID.
[[nodiscard]] Duration thread_cpu_time();

}  // namespace portfwd
