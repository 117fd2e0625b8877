// Unix sockets at a path inside a container's root. A path is resolved as the container would, by
// openat2(2) below the root that the daemon passed, and then used through /proc/self/fd: the plain
// path would follow a planted symlink to the host's own sockets.
#pragma once

#include "broker/outcome.h"
#include "broker/protocol.h"

namespace portfwd::broker {

/// Op::UnixConnect. EAGAIN: the server's backlog is full, ask again. @param root borrowed
Outcome unix_connect(const Request& request, int root, FdBatch& made);

/// Op::UnixListen. Never replaces what is there: EADDRINUSE. @param root borrowed
Outcome unix_listen(const Request& request, int root, FdBatch& made);

}  // namespace portfwd::broker
