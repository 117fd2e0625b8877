// The three roles of portfwd-broker, chosen by its arguments: broker, reader, writer. Each answers
// requests of the daemon until the daemon closes its end of the socket. Called by main.
//
// A broker makes sockets in network namespaces, or serves Unix sockets (unix_sockets.h); its Home
// decides. For each request it enters the network namespace and returns, so that between two
// requests it pins no container's namespace.
#pragma once

#include "base/unique_fd.h"
#include "broker/channel.h"
#include "broker/protocol.h"
#include "broker/unix_sockets.h"

namespace portfwd::broker {

/// Carries out Op::Sockets: makes all of the sockets or none. Internet and netlink sockets are made
/// in the network namespace of the process, and belong to it for their lifetime. Each is
/// close-on-exec and non-blocking.
Outcome make_sockets(const Request& request, FdBatch& made);

/// Carries out Op::Listen. Sets SO_REUSEADDR, as servers usually do. Datagram sockets, and those
/// with a negative backlog, are only bound.
Outcome make_listener(const Request& request, FdBatch& made);

/// What a broker is after Op::Join.
struct Joined {
  Home home = Home::Private;
  UniqueFd netns;  ///< to return to from another one; invalid: no other can be entered
  Ids ids;         ///< determined if the broker serves paths or names
};

/// Carries out Op::Join, the first request: enters `userns` if it is valid, makes or keeps the home
/// namespace, and drops all privileges and system calls that a broker does not need. A broker that
/// fails to join must exit.
/// @param joined set on success
/// Source: setns(2): only a single-threaded process may join a user namespace, and it cannot
/// return.
Outcome join(const Request& request, UniqueFd userns, Joined& joined);

/// Gets the broker's end of the daemon's socket pair in a helper container: connects to a socket of
/// the daemon, which sends it.
/// @param path of a SOCK_SEQPACKET socket
/// @return invalid when nothing listens there, or when the message did not contain exactly one
/// descriptor
[[nodiscard]] UniqueFd fetch_channel(const char* path);

/// Serves as a broker until the daemon closes its end. A request for which it has not joined is
/// answered with EPERM.
void serve(const Channel& channel, const Joined& joined);

/// Enters a network namespace for one request.
/// @param home the namespace to return to; -1: EPERM
Outcome enter_netns(int netns, int home);
/// Returns to the home namespace, or exits: the daemon starts another broker, and continuing in the
/// wrong namespace would be worse.
void go_home(int home);

/// Serves as a reader: reads /proc/PID/cmdline and environ, the sockets of processes, and files
/// below folders that a container names. The daemon must not wait for these: another process may
/// hold the lock of the memory map of the process that is read, and the server of a file system may
/// not answer. The daemon kills a reader that does not answer.
/// @param socket borrowed, blocking
/// @return exit status
int read_for_daemon(int socket);

/// Serves one request as a writer: replaces a file of the user, since the daemon must not wait for
/// the disk.
/// @param socket borrowed, blocking
/// @return exit status
int write_for_daemon(int socket);

}  // namespace portfwd::broker
