// The relays that portfwd is compared with, and how each is started: programs packaged by Debian,
// if installed. Owned by a benchmark, which knows what they carry.
#pragma once

#include <list>
#include <string>

#include "bench/relay_process.h"

namespace portfwd::bench {

/// A server in a container, on all of its IPv4 addresses.
struct Target {
  pid_t container;      ///< a process in its namespaces
  std::string address;  ///< at which the host can reach it
  std::uint16_t port;
  std::string folder;  ///< for configuration files; borrowed by the relays until their end
};

/// Makes a pair of virtual Ethernet devices between the caller's network namespace, which must be
/// its own, and the container's. It lives while both do. @return the container's address
[[nodiscard]] std::string join_by_veth(pid_t container);

/// Starts relays, each from a port of the host's 127.0.0.1 to the container's. Those that take a
/// listener from their starter run in the container's namespaces and reach its 127.0.0.1; pasta
/// enters by itself; the others, which cannot, go to `target.address`.
/// @return all that are installed and work
[[nodiscard]] std::list<RelayProcess> start_peers(const Target& target);

/// The same from Unix paths in `folder` to one on which a server listens.
[[nodiscard]] std::list<RelayProcess> start_unix_peers(const std::string& server,
                                                       const std::string& folder);

}  // namespace portfwd::bench
