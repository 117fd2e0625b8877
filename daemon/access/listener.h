// Listeners of a container, as plain values: one listening socket, and the rule that decides which
// UDP sockets count as servers.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "base/text.h"
#include "config/settings.h"
#include "net/address.h"
#include "net/target.h"

namespace portfwd {

/// One socket inside a container: a TCP socket in LISTEN state, or a UDP socket that is bound and
/// not connected.
struct Listener {
  Protocol protocol = Protocol::Tcp;
  Address local;                ///< address that it is bound to inside
  bool v6only = false;          ///< an IPv6 wildcard that does not accept IPv4 clients
  std::uint64_t cookie = 0;     ///< identifies the socket for its lifetime; 0 when unknown
  std::uint32_t uid = 0;        ///< owner, as seen inside the container
  std::uint32_t inode = 0;      ///< of the socket, as shown in /proc/PID/fd
  std::uint64_t cgroup_id = 0;  ///< inode of the cgroup that made it; 0 when unknown
  SharedText process;           ///< name of the program (comm); empty when unknown
  SharedText command;  ///< command line, words separated by spaces, first 4 KiB; empty when unknown
  bool opted_out = false;   ///< the environment of the program has PORTFWD=off
  std::string unreachable;  ///< why it cannot be dialled, with the remedy; "" when it can

  /// Protocol and port, the name that users know it by.
  [[nodiscard]] Target target() const { return {protocol, local.ip().port}; }
  friend auto operator<=>(const Listener&, const Listener&) = default;
};

/// Which UDP sockets count as listeners. Owned by the AccessSet. Every watch borrows it and
/// compares it with its own copy at each poll.
///
/// The kernel shows no difference between a UDP server and a UDP client that waits for an answer:
/// both are bound and not connected. Clients get their ports from the ephemeral range, so ports in
/// that range do not count unless a rule or a forward names them.
struct UdpInterest {
  bool wanted = false;  ///< false: UDP is not watched
  PortRange ephemeral{32768, 60999};
  PortRanges named;  ///< these count even if they are ephemeral

  [[nodiscard]] bool covers(Port port) const {
    return wanted && (!ephemeral.contains(port) || contains(named, port));
  }
  friend bool operator==(const UdpInterest&, const UdpInterest&) = default;
};

}  // namespace portfwd
