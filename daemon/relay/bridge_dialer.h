// Dials a container from the host, at its own address: for a container whose network namespace
// cannot be entered. Listeners on a wildcard address inside are reached this way, those on its
// loopback are not. Owned per network namespace; it knows no listeners.
//
// The container itself determines which addresses it has, and another machine may have the same
// one: so the first connection to an address counts only if /proc shows its peer inside, and showed
// no peer with our port before we connected. Nothing is sent before. The second condition is
// against a container that makes up peers, one for every port that the host may use: it cannot know
// ours in the time between the two reads.
#pragma once

#include <set>
#include <vector>

#include "kernel/proc_net.h"
#include "relay/netns_dialer.h"

namespace portfwd {

class BridgeDialer final : public Dialer {
 public:
  /// What can be read of the namespace from outside.
  struct Inside {
    ProcNetAddresses addresses;
    ProcNetSockets table;
    [[nodiscard]] static Result<Inside> open(pid_t pid);
  };
  /// @param context borrowed; outlives every Dial.
  BridgeDialer(RelayContext& context, Inside inside)
      : context_(context), inside_(std::move(inside)), sockets_(context) {}

  /// A loopback address among `candidates` stands for a wildcard: the container's own addresses of
  /// that family are dialled. EHOSTUNREACH: it has none, or another machine answered.
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;

  [[nodiscard]] std::vector<IpAddress> addresses() const { return inside_.addresses.read(); }
  /// Its sockets, from files that stay valid after the process by which they were found has ended.
  [[nodiscard]] Result<ProcNetSockets> table() const { return inside_.table.copy(); }

 private:
  class Attempt;
  [[nodiscard]] std::vector<Address> outside_of(std::span<const Address> candidates);
  [[nodiscard]] bool all_proven(const std::vector<Address>& addresses) const;

  RelayContext& context_;
  Inside inside_;
  std::set<IpAddress> proven_;  ///< a connection to it was seen inside, and it has it still
  HostSockets sockets_;
};

}  // namespace portfwd
