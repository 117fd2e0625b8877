// Sandbox of a broker: drops capabilities, the privileges of exec, and all system calls that it
// does not need, once it has entered its namespaces. Called once, when it joins; cannot be undone.
#pragma once

#include <fcntl.h>

#include <cstdint>

#include "broker/channel.h"
#include "broker/protocol.h"

namespace portfwd::broker {

/// A set of capabilities, bit N for capability N of linux/capability.h.
using Capabilities = std::uint64_t;

/// Empties the bounding, ambient and inheritable sets, and reduces the permitted and effective sets
/// to `keep`.
Outcome drop_capabilities(Capabilities keep);

/// Makes all permitted capabilities effective, or none.
/// @return false with errno set
bool set_effective_capabilities(bool all);

/// Sets no_new_privs and installs the allow-list of a broker; any other call kills the process.
/// Source: seccomp(2).
/// @param home decides which requests, and so which calls, are permitted
Outcome filter_system_calls(Home home);

/// The flags with which a reader may call openat(2): none of them permits writing or creating.
inline constexpr int kReadFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
inline constexpr int kFolderFlags = O_PATH | O_DIRECTORY | O_CLOEXEC;
inline constexpr int kListFlags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
inline constexpr int kStepFlags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
inline constexpr int kLastStepFlags = kReadFlags | O_NOFOLLOW;

/// Installs the allow-list of a reader, which makes no sockets and enters no namespaces.
Outcome filter_reading_calls();

}  // namespace portfwd::broker
