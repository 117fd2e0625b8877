// What the process as a whole needs before anything runs: signals, descriptors, timers, whose it
// is, and where its broker lies.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/error.h"
#include "config/config_file.h"
#include "dbus/bus_service.h"

namespace portfwd {

// How the daemon ends and what it says then. The numbers are part of the outside contract.

enum Exit { kDone = 0, kFailed = 1, kUsage = 2, kAnotherRuns = 4 };

/// Says why, in one line each, and returns the status.
int fail_with(Exit status, std::string_view text);
/// A part could not be made.
int fail_with(const Error& error);
int fail_with(const BusFailure& failure);
int fail_with(const Mistakes& mistakes);

/// Ignores SIGPIPE (splice has no flag for it), and SIGUSR1 and SIGUSR2, which would end the daemon
/// and mean nothing to it; raises the soft descriptor limit to the hard one, lets the kernel
/// coalesce wake-ups by a millisecond, and has large blocks of memory given back when freed.
void set_up_process();

/// Of this user; "" when it can't be known.
[[nodiscard]] std::string login_name();

/// The broker beside this program: installed (bin/ and libexec/), or in a build tree.
[[nodiscard]] std::filesystem::path broker_path();

}  // namespace portfwd
