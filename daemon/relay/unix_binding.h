// Unix sockets on which a forward listens, at a path or an abstract name of the host or of a
// container: made by a PathBroker, which also removes the path. The same code serves both sides.
#pragma once

#include <expected>
#include <functional>
#include <string>

#include "broker/client/path_broker.h"
#include "event/event_loop.h"
#include "relay/stream_listener.h"

namespace portfwd {

/// Called once, never from within bind_unix(). The socket does not listen.
using OnUnixBound = std::move_only_function<void(std::expected<BoundSocket, PathFailure> bound)>;

/// Called with each socket that is made, before it is passed on: the first, and those of
/// PlaceBinding::renew(). May be empty.
using OnUnixMade = std::move_only_function<void(int socket)>;

/// Requests a socket that is bound to `address`, a UnixPath or AbstractName.
/// @param broker borrowed; must outlive the socket's PlaceBinding
/// @return the request; its destruction cancels it, and removes a path that is bound nevertheless
[[nodiscard]] PathCall bind_unix(PathBroker& broker, const Address& address,
                                 const ListenOptions& options, OnUnixMade on_made,
                                 OnUnixBound on_bound);

/// The file that a BoundSocket of bind_unix() has made; zero for an abstract name.
[[nodiscard]] broker::FileId file_of(const BoundSocket& bound);

/// For the user: why a path or name cannot be bound or removed, such as "a regular file is there".
[[nodiscard]] std::string text_of(const PathFailure& failure);

}  // namespace portfwd
