// What no single value shows: keys that contradict each other, in one file or across several. The
// last step of reading a configuration.
#pragma once

#include "config/complaints.h"
#include "config/settings.h"

namespace portfwd {

/// In all files together. Each has two sockets or more while the daemon runs, and is compared with
/// all others whenever one is made.
inline constexpr std::size_t kMostDeclaredForwards = 1024;

/// @param settings all that the files say together, rules and forwards with their places
void find_contradictions(Complaints& complaints, const Settings& settings);

}  // namespace portfwd
