// Whether an address belongs to this machine. Stateless.
#pragma once

#include "net/endpoint.h"

namespace portfwd {

/// @return false only when the kernel is sure that no interface of this network namespace has it.
/// True also for what it can't tell without an interface (IPv6 link-local addresses), and for every
/// address where net.ipv4.ip_nonlocal_bind is set. Synchronous; loopback addresses cost nothing.
/// Source: ip(7), bind: EADDRNOTAVAIL.
[[nodiscard]] bool may_be_own_address(const IpAddress& address);

}  // namespace portfwd
