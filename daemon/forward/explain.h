// Why a port is or isn't forwarded, in sentences: what was seen, what decided, which host port, how
// the container is reached, what would change it. A pure function of what the controller knows.
#pragma once

#include <optional>

#include "base/facts.h"
#include "forward/model.h"
#include "forward/policy.h"

namespace portfwd {

/// What is known of one container's port.
struct Known {
  const Container& subject;  ///< of the rules
  ContainerInfo container;   ///< the same, as it is shown
  Target target;
  std::optional<ForwardInfo> forward;
  std::string asked_by;           ///< as ForwardTable::asked_by says
  bool suppressed = false;        ///< a person ended it, and its listener still lives
  std::size_t auto_forwards = 0;  ///< how many the container has
};

/// @return the keys that Control::explain names, and `container`, `port`
[[nodiscard]] Facts explain(const PolicyContext& policy, const Known& known);

}  // namespace portfwd
