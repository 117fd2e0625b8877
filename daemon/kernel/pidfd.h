// A process held by descriptor: it stays this process, whoever gets its pid later. Used by whoever
// waits for a process that is not its child. It knows nothing of what the process does.
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd {

/// Needs no right over the process. Readable (EPOLLIN) once all its threads have exited, whether or
/// not it was reaped. Source: pidfd_open(2).
/// @return ESRCH when there is no such process, EINVAL/ENOENT when `pid` is a thread's.
[[nodiscard]] Result<UniqueFd> open_pidfd(pid_t pid);

/// The process has exited (a zombie has). Never blocks.
[[nodiscard]] bool has_exited(int pidfd);

}  // namespace portfwd
