// What counts as a listener of a container, as plain values: one listening socket, and which UDP
// sockets are taken for servers.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "base/text.h"
#include "config/settings.h"
#include "net/address.h"
#include "net/target.h"

namespace portfwd {

/// One socket inside a container in LISTEN state; a UDP socket that is bound and not connected.
struct Listener {
  Protocol protocol = Protocol::Tcp;
  Address local;                ///< as bound inside
  bool v6only = false;          ///< an IPv6 wildcard that does not accept IPv4 clients
  std::uint64_t cookie = 0;     ///< the socket's identity for life; 0 when it cannot be known
  std::uint32_t uid = 0;        ///< owner, as the container counts
  std::uint32_t inode = 0;      ///< of the socket, as in /proc/PID/fd
  std::uint64_t cgroup_id = 0;  ///< inode of the cgroup that made it; 0 when it cannot be known
  SharedText process;           ///< the program's name (comm); empty when it cannot be known
  SharedText command;  ///< its command line, words apart by a space, the first 4 KiB; as `process`
  bool opted_out = false;   ///< its environment says PORTFWD=off
  std::string unreachable;  ///< why it cannot be dialled, remedy included; "" when it can

  /// What a person calls it.
  [[nodiscard]] Target target() const { return {protocol, local.ip().port}; }
  friend auto operator<=>(const Listener&, const Listener&) = default;
};

/// Which UDP sockets count as listeners. Owned by the AccessSet; every watch borrows it and
/// compares at each poll.
///
/// A UDP server and a UDP client that waits for an answer look the same to the kernel: bound and
/// not connected. Clients take their ports from the ephemeral range, so ports in that range do not
/// count unless a rule or a forward names them.
struct UdpInterest {
  bool wanted = false;  ///< false: UDP is not watched
  PortRange ephemeral{32768, 60999};
  PortRanges named;  ///< count even so

  [[nodiscard]] bool covers(Port port) const {
    return wanted && (!ephemeral.contains(port) || contains(named, port));
  }
  friend bool operator==(const UdpInterest&, const UdpInterest&) = default;
};

}  // namespace portfwd
