// The state of a forward's port, for its successor in a restarted daemon: its sockets, its clients,
// its connections, and the bytes that were read and not yet delivered. ForwardPort::save() creates
// a record and ForwardPort::restore() consumes it. Records are plain values that own their
// descriptors. Destroying a record resets its TCP connections, so that no program takes a truncated
// stream for a complete one, and closes its other sockets.
//
// Times are of CLOCK_MONOTONIC, which all processes of a machine share. A record does not contain:
//  - the settings, and whether the port holds, serves or drains: the owner decides again;
//  - dials under way: they are cancelled, and dialled again when the port serves;
//  - what a LoopGuard has counted: clients that it held are dialled for;
//  - the modes and timeouts of a DatagramPort, and the outcome of the last dial.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "net/address.h"
#include "relay/forward_port.h"
#include "relay/relay.h"
#include "relay/stream_listener.h"

namespace portfwd {

/// A client that is authorized and not connected to a target.
struct ClientRecord {
  ResettingFd socket;
  Family family = Family::V4;
  std::optional<TimePoint> held_until;  ///< nothing: it was being dialled for
};

/// One client of a datagram forward; see Flow.
struct FlowRecord {
  Endpoint client;
  std::optional<IpAddress> at;
  std::size_t socket_index = 0;  ///< index in PortRecord::sockets
  UniqueFd socket;               ///< connected to the target; invalid before that
  std::uint64_t asked = 0;       ///< datagrams towards the target
  std::uint64_t answered = 0;
  TimePoint used{};
  TimePoint examined{};
  std::uint32_t client_inode = 0;
  std::vector<std::vector<std::byte>> kept;  ///< datagrams to send when `socket` is connected
};

struct PortRecord {
  Counters counters;
  /// Bound, and listening or refusing as before; clients may wait in their queues. Empty for a port
  /// that drains.
  std::vector<BoundSocket> sockets;
  bool refusing = false;  ///< for datagram sockets; a stream socket listens unless it refuses
  std::vector<ClientRecord> clients;
  std::vector<RelayRecord> relays;
  std::vector<FlowRecord> flows;
};

}  // namespace portfwd
