// Names the program that holds a host port, for the sentence that tells a person why a forward got
// another one. Asked only after a bind has failed. Owned by main.
#pragma once

#include <string>

#include "forward/forward_table.h"
#include "kernel/proc_dir.h"

namespace portfwd {

class HostPortHolder final : public PortHolder {
 public:
  /// @param proc borrowed
  explicit HostPortHolder(const ProcDir& proc) : proc_(proc) {}

  /// "nginx", or "a program of uid 33" when its descriptors can't be seen; "" when nobody listens
  /// there (a connection may hold a port too).
  [[nodiscard]] std::string holder_of(Protocol protocol, const Endpoint& endpoint) const override;

 private:
  const ProcDir& proc_;
};

}  // namespace portfwd
