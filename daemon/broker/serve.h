// The three programs that portfwd-broker is, by how it was started: a broker, a reader, a writer.
// Each answers requests of the daemon until the daemon closes its end of the socket. Called by
// main.
//
// A broker makes sockets in network namespaces. Each request goes to its namespace and back, so
// that between two requests it pins no container's namespace.
#pragma once

#include "base/unique_fd.h"
#include "broker/channel.h"
#include "broker/protocol.h"

namespace portfwd::broker {

/// Op::Sockets. All of them or none. Internet and netlink sockets are made in the network namespace
/// in which the process is, and belong to it for life. Each is close-on-exec and non-blocking.
Outcome make_sockets(const Request& request, FdBatch& made);

/// Op::Listen. SO_REUSEADDR is set, as every server does; a datagram socket is only bound, and so
/// is every one with a negative backlog.
Outcome make_listener(const Request& request, FdBatch& made);

/// Enters `userns` if it is valid, goes to its home namespace and drops all privileges and system
/// calls that it does not need. Must be the first request. A broker whose join failed is of no use
/// and must exit.
/// @param home set to the private network namespace, or left invalid for Home::Here
/// Source: setns(2): only a single-threaded process may join a user namespace, and there is no way
/// back.
Outcome join(const Request& request, UniqueFd userns, UniqueFd& home);

/// Gets the broker's end of the daemon's socket pair, where an engine has started it as a helper
/// container: it connects to a socket of the daemon, which sends it.
/// @param path of a SOCK_SEQPACKET socket
/// @return invalid when nothing listens there, or what arrived was not one descriptor
[[nodiscard]] UniqueFd fetch_channel(const char* path);

/// Serves as a broker. @param home borrowed; the network namespace to return to, or -1: then no
/// other can be entered
void serve(const Channel& channel, int home);

/// Serves as a reader: reads /proc/PID/cmdline and environ, and files below folders that a label
/// names, for the daemon, which must not wait for them: another process may hold the memory map of
/// the process that is read, and a file system's server may not answer. The daemon kills a reader
/// that does not answer. @param socket borrowed, blocking @return exit status
int read_for_daemon(int socket);

/// Serves one request as a writer: replaces a file of the user for the daemon, which must not wait
/// for the disk. @param socket borrowed, blocking @return exit status
int write_for_daemon(int socket);

}  // namespace portfwd::broker
