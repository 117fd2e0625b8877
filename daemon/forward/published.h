// Ports that a container's engine forwards itself (`-p`). A pure function; the policy asks it.
#pragma once

#include <string>

#include "discover/container.h"
#include "watch/watcher.h"

namespace portfwd {

/// Where the engine makes this listener reachable on the host, such as "127.0.0.1:8080" or "port
/// 8080 of every address"; "" where it doesn't: docker-proxy, rootlessport and pasta lead to the
/// container's own address, so a listener on its loopback is not reached although its port is
/// published. In rootlesskit's own namespace listen the engine's forwarders, and on the host, at
/// the same port, rootlesskit for them.
[[nodiscard]] std::string published_at(const Container& container, const Listener& listener);

}  // namespace portfwd
