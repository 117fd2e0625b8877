// Settings of the process as a whole, made before anything else runs: signals, descriptors, timers.
// Also its user, the path of its broker, and its exit status.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "config/config_file.h"
#include "dbus/bus_service.h"

namespace portfwd {

/// Exit status of the daemon. The numbers are part of the outside contract.
enum Exit { kDone = 0, kFailed = 1, kUsage = 2, kAnotherRuns = 4 };

/// Logs each line of the text as an error. @return the status
int fail_with(Exit status, std::string_view text);
/// Logs why the daemon cannot start. @return the status for that kind of failure
int fail_with(const Error& error);
int fail_with(const Refusal& refusal);
int fail_with(const Mistakes& mistakes);

/// Ignores SIGPIPE (splice has no flag for it), and SIGUSR1 and SIGUSR2, which would end the daemon
/// and have no meaning here. Raises the soft descriptor limit to the hard one, lets the kernel
/// coalesce wake-ups within a millisecond, and makes glibc return large blocks of memory to the
/// kernel when they are freed.
void set_up_process();

/// The login name of this user; "" when it is unknown.
[[nodiscard]] std::string login_name();

// The programs that belong to this one: installed (bin/ and libexec/), or in a build tree.
[[nodiscard]] std::filesystem::path broker_path();
[[nodiscard]] std::filesystem::path relay_path();

}  // namespace portfwd
