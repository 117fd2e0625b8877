// Names the program that holds a host port, for the sentence that tells a person why a forward got
// another one. Asked only after a bind has failed; what one look at the listeners and programs of
// the host shows serves for all questions of the next second. Owned by main.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "forward/forward_table.h"
#include "kernel/proc_dir.h"
#include "kernel/sock_diag.h"

namespace portfwd {

class HostPortHolder final : public PortHolder {
 public:
  /// @param proc, clock borrowed
  HostPortHolder(const ProcDir& proc, const Clock& clock) : proc_(proc), clock_(clock) {}

  /// "nginx", or "a program of uid 33" when its descriptors can't be seen; "" when nobody listens
  /// there (a connection may hold a port too).
  [[nodiscard]] std::string holder_of(Protocol protocol, const Endpoint& endpoint) const override;

 private:
  struct Seen {
    TimePoint at = TimePoint::min();
    std::vector<DiagSocket> listeners;
    std::map<std::uint64_t, pid_t> owners;  ///< by the socket's inode
  };
  [[nodiscard]] const Seen& look(Protocol protocol) const;

  const ProcDir& proc_;
  const Clock& clock_;
  mutable std::array<Seen, 2> seen_;  ///< by protocol
};

}  // namespace portfwd
