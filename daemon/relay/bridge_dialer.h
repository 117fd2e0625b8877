// A dialer that connects from the host to a container's own addresses, for a container whose
// network namespace cannot be entered. It reaches listeners on these addresses and on a wildcard
// inside, but not those on loopback. Owned per network namespace; it knows no listeners.
//
// The container determines which addresses it has, and another machine may have the same one. So
// the first connection to an address is used only if /proc shows its other end inside, and showed
// no connection from our port before we connected. Nothing is sent before that. The second
// condition protects against a container that simulates peers, one for every port that the host may
// use: it cannot know our port in the time between the two reads.
#pragma once

#include <set>
#include <vector>

#include "kernel/proc_net.h"
#include "relay/netns_dialer.h"

namespace portfwd {

class BridgeDialer final : public Dialer {
 public:
  /// What can be read of the namespace from outside, in /proc.
  struct Inside {
    ProcNetAddresses addresses;
    ProcNetSockets table;
    [[nodiscard]] static Result<Inside> open(pid_t pid);
  };
  /// @param context borrowed; must outlive every Dial.
  BridgeDialer(RelayContext& context, Inside inside)
      : context_(context), inside_(std::move(inside)), sockets_(context) {}

  /// A loopback address in `candidates` stands for a wildcard: the container's own addresses of
  /// that family are dialled. Fails with EHOSTUNREACH if it has none, or if another machine
  /// answered.
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;

  /// The container's own addresses, read now.
  [[nodiscard]] std::vector<IpAddress> addresses() const { return inside_.addresses.read(); }
  /// The sockets of the namespace. The files stay valid after the process that they were found by
  /// has exited.
  [[nodiscard]] Result<ProcNetSockets> table() const { return inside_.table.copy(); }

 private:
  class Attempt;
  [[nodiscard]] std::vector<Address> outside_of(std::span<const Address> candidates);
  [[nodiscard]] bool all_proven(const std::vector<Address>& addresses) const;

  RelayContext& context_;
  Inside inside_;
  std::set<IpAddress> proven_;  ///< own addresses to which a connection was seen inside
  HostSockets sockets_;
};

}  // namespace portfwd
