// What a broker takes from itself once it is where it has to be: capabilities, privileges by exec,
// and every system call that its work does not need. Called once, by join(); nothing of it can be
// undone.
#pragma once

#include <cstdint>

#include "broker/outcome.h"

namespace portfwd::broker {

/// A set of capabilities, bit N for capability N of linux/capability.h.
using Capabilities = std::uint64_t;

/// Empties the bounding and ambient sets and keeps of the permitted ones only those in `keep`.
Outcome drop_capabilities(Capabilities keep);

/// Sets no_new_privs and installs the allow-list; anything else kills the process. Source:
/// seccomp(2).
Outcome filter_system_calls();

}  // namespace portfwd::broker
