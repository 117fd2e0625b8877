// Which addresses to dial, and in what order, to reach a port that may have several listeners. A
// pure function; it opens nothing.
#pragma once

#include <span>
#include <vector>

#include "net/address.h"

namespace portfwd {

/// Where somebody listens, as bound there.
struct ListenAddress {
  Address address;
  bool v6only = false;  ///< an IPv6 wildcard that does not take IPv4 clients
  friend bool operator==(const ListenAddress&, const ListenAddress&) = default;
};

/// What a local client of `client`'s family would have reached inside comes first: 127.0.0.1 or
/// ::1, then a wildcard, by the loopback address of that family, then another loopback address,
/// then a specific one; after that the other family in the same order. Without duplicates.
/// A wildcard that is bound to an interface stays one: its loopback address would not lead there.
[[nodiscard]] std::vector<Address> dial_order(Family client,
                                              std::span<const ListenAddress> listeners);

}  // namespace portfwd
