// Sandbox of portfwd-relay: drops what it does not need, once, before the first message is read.
// Cannot be undone.
#pragma once

namespace portfwd::relay_process {

/// Drops all capabilities, sets no_new_privs and installs an allow-list of system calls, without
/// any that opens, connects, executes or forks; any other call kills the process.
/// @return false when one of these fails; then the process must exit
[[nodiscard]] bool enter_sandbox();

}  // namespace portfwd::relay_process
