// What the port of a forward hands to its successor in a restarted daemon: its sockets, its
// clients, its connections, and the bytes that were read and not yet delivered. ForwardPort::save()
// makes a record and ForwardPort::restore() takes it. Plain values that own their descriptors: a
// record that is dropped resets its connections, so that no program takes a truncated stream for a
// whole one.
//
// Times are of CLOCK_MONOTONIC, which all processes of a machine share. Not in a record: what the
// owner decides anew (hold, serve or drain), dials under way, which are repeated, and what a
// LoopGuard has counted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "net/address.h"
#include "relay/forward_port.h"
#include "relay/host_listener.h"
#include "relay/relay.h"

namespace portfwd {

/// A client that is authorized and not connected to a target.
struct ClientRecord {
  ResettingFd socket;
  Family family = Family::V4;
  std::optional<TimePoint> held_until;  ///< nothing: to be dialled for
  bool refused = false;                 ///< see WaitingClient, as `redialled`
  bool redialled = false;
};

/// One client of a datagram forward; see Flow.
struct FlowRecord {
  Endpoint client;
  std::optional<IpAddress> at;
  std::size_t via = 0;  ///< index of PortRecord::sockets
  UniqueFd socket;      ///< connected to the target; invalid: not yet
  std::uint64_t asked = 0;
  std::uint64_t answered = 0;
  TimePoint used{};
  TimePoint examined{};
  std::uint32_t client_inode = 0;
  std::vector<std::vector<std::byte>> kept;  ///< datagrams for a target that is not connected
};

struct PortRecord {
  Counters counters;
  /// Bound, and listening or refusing as they were; clients may wait in their queues. None of a
  /// port that drains.
  std::vector<BoundSocket> sockets;
  bool refusing = false;  ///< of datagram sockets; a listener knows it itself
  std::vector<ClientRecord> clients;
  std::vector<RelayRecord> relays;
  std::vector<FlowRecord> flows;
};

}  // namespace portfwd
