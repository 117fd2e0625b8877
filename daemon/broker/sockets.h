// Internet and netlink sockets, made in the network namespace in which the process is at the
// moment: it is theirs for life. Every one comes back close-on-exec and non-blocking.
#pragma once

#include "broker/outcome.h"
#include "broker/protocol.h"

namespace portfwd::broker {

/// Op::Sockets. All of them or none.
Outcome make_sockets(const Request& request, FdBatch& made);

/// Op::Listen. SO_REUSEADDR is set, as every server does; a datagram socket is only bound, and so is
/// every one with a negative backlog.
Outcome make_listener(const Request& request, FdBatch& made);

}  // namespace portfwd::broker
