// What the process as a whole needs before anything runs: signals, descriptors, timers, and where
// its broker lies.
#pragma once

#include <filesystem>

#include "kernel/sock_diag.h"

namespace portfwd {

/// Ignores SIGPIPE (splice has no flag for it), raises the soft descriptor limit to the hard one,
/// and lets the kernel coalesce wake-ups by a millisecond.
void set_up_process();

/// tcp_diag is a module on many kernels: tells, in the log too, whether it is there.
[[nodiscard]] Result<void> check_sock_diag(SockDiag& diag);

/// The broker beside this program: installed (bin/ and libexec/), or in a build tree.
[[nodiscard]] std::filesystem::path broker_path();

}  // namespace portfwd
