// What the process as a whole needs before anything runs: signals, descriptors, timers, and where
// its broker lies.
#pragma once

#include <filesystem>

namespace portfwd {

/// Ignores SIGPIPE (splice has no flag for it), raises the soft descriptor limit to the hard one,
/// and lets the kernel coalesce wake-ups by a millisecond.
void set_up_process();

/// The broker beside this program: installed (bin/ and libexec/), or in a build tree.
[[nodiscard]] std::filesystem::path broker_path();

}  // namespace portfwd
