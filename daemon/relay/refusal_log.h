// Tells the journal whom a forward has refused and what would let such a client in: at most one
// line a second, with what was left unsaid, since a refused client can try as often as it likes. A
// member of a ForwardPort.
#pragma once

#include <string>

#include "base/clock.h"
#include "relay/client_identity.h"

namespace portfwd {

class RefusalLog {
 public:
  /// @param id, name of the forward
  void tell(TimePoint now, const std::string& id, const std::string& name, const Endpoint& client,
            const ClientVerdict& verdict);

 private:
  TimePoint may_tell_{};
  std::uint64_t untold_ = 0;
};

}  // namespace portfwd
