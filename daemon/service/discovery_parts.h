// Discovery put together for this machine: its /proc, the registry it fills, and the names of the
// programs it has seen. Owned by main.
#pragma once

#include <unistd.h>

#include "discover/discovery.h"
#include "reach/process_names.h"

namespace portfwd {

struct DiscoveryParts {
  /// The daemon's only children are its brokers, whose home is no container.
  explicit DiscoveryParts(EventLoop& loop)
      : registry(loop, proc, identifier, boundary),
        discovery({loop, proc, identifier, boundary, registry},
                  {.is_ours = [this](pid_t pid) { return proc.parent(pid) == ::getpid(); }}) {}

  const ProcDir proc;
  const Identifier identifier{proc};
  const Boundary boundary{proc, identifier};
  Registry registry;
  Discovery discovery;
  FoundProcessNames names{discovery, proc};
};

}  // namespace portfwd
