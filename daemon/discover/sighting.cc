// See sighting.h.
#include "discover/sighting.h"

#include "kernel/pidfd.h"

namespace portfwd {

Result<Held> hold(const ProcDir& proc, pid_t pid) {
  auto pidfd = open_pidfd(pid);
  if (!pidfd) return std::unexpected(pidfd.error());
  auto netns = proc.open_netns(pid);
  if (has_exited(pidfd->get())) return fail("pidfd_open", ESRCH);
  if (!netns) return std::unexpected(netns.error());
  return Held{std::move(*pidfd), std::move(*netns)};
}

}  // namespace portfwd
