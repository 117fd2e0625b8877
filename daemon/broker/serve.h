// The broker's working life: one request after the other until the daemon goes. Called by main
// after the join. Each request goes to its namespace and back, so between two of them it pins
// nobody's.
#pragma once

#include "base/unique_fd.h"
#include "broker/channel.h"
#include "broker/protocol.h"

namespace portfwd::broker {

// Internet and netlink sockets, made in the network namespace in which the process is at the
// moment: it is theirs for life. Every one comes back close-on-exec and non-blocking.
/// Op::Sockets. All of them or none.
Outcome make_sockets(const Request& request, FdBatch& made);

/// Op::Listen. SO_REUSEADDR is set, as every server does; a datagram socket is only bound, and so
/// is every one with a negative backlog.
Outcome make_listener(const Request& request, FdBatch& made);

// The first request of a broker's life: go where the sockets are to be made, and lock the door
// behind. Called once, by main. A broker whose join failed half-way is of no use and ends.
/// Enters `userns` if it is valid, takes up its home and gives away everything else.
/// @param home set to the private network namespace, or left invalid for Home::Here
/// Source: setns(2): only a single-threaded process may join a user namespace, and there is no way
/// back.
Outcome join(const Request& request, UniqueFd userns, UniqueFd& home);

// How a broker that somebody else has started (an engine, as a helper container) comes to its end
// of the daemon's socket pair: it connects to a socket of the daemon's and is given it. Called
// once, by main.
/// @param path of a SOCK_SEQPACKET socket
/// @return invalid when nobody listens there, or what came was no single descriptor
[[nodiscard]] UniqueFd fetch_channel(const char* path);

/// @param home borrowed; the network namespace to return to, or -1: then no other can be entered
void serve(const Channel& channel, int home);

}  // namespace portfwd::broker
