#include "base/process_usage.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>

namespace portfwd {

namespace {

Duration from_timeval(const timeval& t) {
  return std::chrono::seconds(t.tv_sec) + std::chrono::microseconds(t.tv_usec);
}

std::optional<std::int64_t> resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::int64_t size = 0;
  std::int64_t resident = 0;
  if (!(in >> size >> resident)) return std::nullopt;
  return resident * ::sysconf(_SC_PAGESIZE);
}

/// Linux 6.2 and later report the number of descriptors as the size of the folder. Earlier kernels
/// report 0; then the entries are counted, which takes time that containers control.
std::optional<std::int64_t> open_fds() {
  struct stat folder {};
  if (::stat("/proc/self/fd", &folder) == 0 && folder.st_size > 0) return folder.st_size;
  std::error_code error;
  const std::filesystem::directory_iterator fds("/proc/self/fd", error);
  if (error) return std::nullopt;
  return std::distance(begin(fds), end(fds)) - 1;  // one is the iterator's own
}

}  // namespace

ProcessUsage process_usage() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  rlimit fds{};
  ::getrlimit(RLIMIT_NOFILE, &fds);
  return {.cpu = from_timeval(used.ru_utime) + from_timeval(used.ru_stime),
          .resident_bytes = resident_bytes(),
          .open_fds = open_fds(),
          .max_fds = static_cast<std::int64_t>(fds.rlim_cur)};
}

Duration thread_cpu_time() {
  timespec used{};
  (void)::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
  return std::chrono::seconds(used.tv_sec) + Duration(used.tv_nsec);
}

}  // namespace portfwd
