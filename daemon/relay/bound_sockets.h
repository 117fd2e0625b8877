// Host ports as bound sockets: one port on a few addresses, held together or not at all. Whoever
// binds owns them. It knows nothing of who listens on them and why.
#pragma once

#include <expected>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"

namespace portfwd {

struct BindFailure {
  Protocol protocol = Protocol::Tcp;
  Address address;  ///< the one that could not be had
  Error error;      ///< EADDRINUSE, EACCES, EADDRNOTAVAIL, ...
};

/// A socket that is bound and, if of TCP, does not listen, wherever it was made.
struct BoundSocket {
  Address address;
  UniqueFd socket;  ///< non-blocking
};

/// On all of `addresses` (at least one) or on none. A loopback address of a family that this host
/// lacks is left out, as long as one remains. Those of TCP have SO_REUSEADDR, else connections in
/// TIME_WAIT would block the port; those of UDP have not, since there it lets anybody share the
/// port. Source: ip(7), socket(7), udp_lib_get_port in net/ipv4/udp.c.
[[nodiscard]] std::expected<std::vector<BoundSocket>, BindFailure> bind_together(
    Protocol protocol, std::span<const Address> addresses);

}  // namespace portfwd
