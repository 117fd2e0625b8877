// Kernel settings that decide about ports, read anew on each call. Source: ip(7).
#pragma once

#include "config/port_range.h"

namespace portfwd::sysctl {

/// net.ipv4.ip_local_port_range: where the kernel takes a client's own port from. The kernel's
/// default when it cannot be read.
[[nodiscard]] PortRange ephemeral_ports();

/// net.ipv4.ip_unprivileged_port_start; 1024 when it cannot be read.
[[nodiscard]] Port first_unprivileged_port();

}  // namespace portfwd::sysctl
