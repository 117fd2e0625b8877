// What a broker takes from itself once it is where it has to be: capabilities, privileges by exec,
// and every system call that its work does not need. Called once, by join(); nothing of it can be
// undone.
#pragma once

#include <fcntl.h>

#include <cstdint>

#include "broker/channel.h"

namespace portfwd::broker {

/// A set of capabilities, bit N for capability N of linux/capability.h.
using Capabilities = std::uint64_t;

/// Empties the bounding and ambient sets and keeps of the permitted ones only those in `keep`.
Outcome drop_capabilities(Capabilities keep);

/// Sets no_new_privs and installs the allow-list; anything else kills the process. Source:
/// seccomp(2).
Outcome filter_system_calls();

/// The flags with which a reader may call openat(2): nothing can be written or made.
inline constexpr int kReadFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
inline constexpr int kFolderFlags = O_PATH | O_DIRECTORY | O_CLOEXEC;
inline constexpr int kListFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
inline constexpr int kStepFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
inline constexpr int kLastStepFlags = kReadFlags | O_NOFOLLOW;

/// The same for a reader, which makes no socket and enters nothing.
Outcome filter_reading_calls();

}  // namespace portfwd::broker
