// How the daemon ends and what it says then. The numbers are part of the outside contract.
#pragma once

#include <string_view>

#include "config/config_file.h"
#include "dbus/bus_service.h"

namespace portfwd {

enum Exit { kDone = 0, kFailed = 1, kUsage = 2, kAnotherRuns = 4 };

/// Says why, in one line each, and returns the status.
int fail_with(Exit status, std::string_view text);
/// A part could not be made.
int fail_with(const Error& error);
int fail_with(const BusFailure& failure);
int fail_with(const Mistakes& mistakes);

}  // namespace portfwd
