// The reader's working life: portfwd-broker started with --reader. It reads /proc/PID/cmdline and
// environ, and files below folders that a label names, for the daemon, which must not wait for
// them: another process may hold the memory map of the one that is read, and a file system's server
// may not answer. The daemon kills a reader that is silent. Called once, by main.
//
// It asks for nothing and decides nothing but whose process may be read: one that the kernel lets
// it trace, which is the user's own, one in a user namespace that the user owns, or one of root's.
#pragma once

namespace portfwd::broker {

/// Answers until the daemon goes. @param socket borrowed, blocking
/// @return exit status
int read_for_daemon(int socket);

}  // namespace portfwd::broker
