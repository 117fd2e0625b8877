// See pidfd.h.
#include "kernel/pidfd.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace portfwd {

Result<UniqueFd> open_pidfd(pid_t pid) {
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return fail("pidfd_open");
  return UniqueFd(static_cast<int>(fd));
}

bool has_exited(int pidfd) {
  pollfd waiting{pidfd, POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

}  // namespace portfwd
