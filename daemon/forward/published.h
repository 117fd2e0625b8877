// Ports that a container's engine forwards itself (`-p`). A pure function; the policy asks it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "access/listener.h"
#include "discover/container.h"

namespace portfwd {

/// Where on the host the engine leads to a port of the container's own address, such as
/// "127.0.0.1:8080" or "port 8080 of every address"; "" when it doesn't.
[[nodiscard]] std::string published_at(const std::vector<PublishedPorts>& published,
                                       const Target& target);

/// The host port at which clients of the loopback get there; nothing when they don't.
[[nodiscard]] std::optional<Port> published_on_loopback(
    const std::vector<PublishedPorts>& published, const Target& target);

/// Where the engine makes this listener reachable on the host, such as "127.0.0.1:8080" or "port
/// 8080 of every address"; "" where it doesn't: docker-proxy, rootlessport and pasta lead to the
/// container's own address, so a listener on its loopback is not reached although its port is
/// published. In rootlesskit's own namespace listen the engine's forwarders, and on the host, at
/// the same port, rootlesskit for them.
[[nodiscard]] std::string published_at(const Container& container, const Listener& listener);

}  // namespace portfwd
