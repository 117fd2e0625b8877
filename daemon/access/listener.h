// Listeners of a container, as plain values: one listening socket, and the rule that decides which
// UDP sockets count as servers. A listener is on an IP port or has the name of a Unix socket;
// `target()` says which, and code that treats both works by the target.
#pragma once

#include <compare>
#include <cstdint>
#include <string>

#include "base/text.h"
#include "config/settings.h"
#include "kernel/sock_diag.h"
#include "net/address.h"
#include "net/target.h"

namespace portfwd {

/// One socket inside a container: a TCP or Unix socket in LISTEN state, or a UDP socket that is
/// bound and not connected.
///
/// The name of a Unix socket is what its program gave to bind(2). It may be relative, and its file
/// may have been renamed or removed since. The file is identified by `device` and `file_inode`.
struct Listener {
  Protocol protocol = Protocol::Tcp;
  Address local;                ///< address that it is bound to inside
  bool v6only = false;          ///< an IPv6 wildcard that does not accept IPv4 clients
  std::uint64_t cookie = 0;     ///< identifies the socket for its lifetime; 0 when unknown
  std::uint32_t uid = 0;        ///< owner, as seen inside the container; or kUnknownUid
  std::uint32_t inode = 0;      ///< of the socket, as shown in /proc/PID/fd
  std::uint64_t cgroup_id = 0;  ///< inode of the cgroup that made it; 0 when unknown
  SharedText process;           ///< name of the program (comm); empty when unknown
  SharedText command;  ///< command line, words separated by spaces, first 4 KiB; empty when unknown
  bool opted_out = false;   ///< the environment of the program has PORTFWD=off
  std::string unreachable;  ///< why it cannot be dialled, with the remedy; "" when it can
  // Of a Unix socket only:
  SocketType type = SocketType::Stream;
  std::uint32_t backlog = 0;     ///< clients that may wait to be accepted; 0 when unknown
  std::uint64_t device = 0;      ///< of the file that bind(2) made; 0 if abstract or unknown
  std::uint64_t file_inode = 0;  ///< of that file; 0 if abstract or unknown

  /// The name that users know it by: protocol and port, or the name of a Unix socket.
  [[nodiscard]] Target target() const { return target_of(protocol, local); }
  /// "stream" or "seqpacket"; "" for a port.
  [[nodiscard]] std::string_view type_name() const {
    return protocol == Protocol::Unix ? name_of(type) : std::string_view();
  }
  /// The IP address; null for a Unix socket.
  [[nodiscard]] const IpAddress* ip_address() const {
    return local.endpoint() == nullptr ? nullptr : &local.endpoint()->address;
  }
  friend auto operator<=>(const Listener&, const Listener&) = default;
};

/// A listener of which only the target is known. @param ip its IP address, if the target is a port
[[nodiscard]] inline Listener listener_at(const Target& target, const IpAddress& ip) {
  Listener out;
  out.protocol = target.protocol();
  out.local = address_of(target, ip);
  return out;
}

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
