// Why a port is or isn't forwarded, in sentences: what was seen and when, which rules were tried,
// what decided, which host addresses were tried, how the container is reached, what would change
// it. A pure function of what is known.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/facts.h"
#include "forward/model.h"
#include "forward/policy.h"

namespace portfwd {

/// A listener on the port in question.
struct SeenListener {
  Listener listener;
  WallTime since{};     ///< when it was first seen
  Duration settling{};  ///< so much longer it must live; zero or less: it has settled
};

/// How the last forward of a port ended.
struct EndedForward {
  ForwardInfo forward;
  WallTime when{};
  std::string reason;  ///< as in PortRemoved
};

/// What is known of one container's port.
struct Known {
  const Container* subject = nullptr;  ///< of the rules; null when no such container is there
  ContainerInfo container;             ///< the same as it is shown; without one only its name
  Target target;
  std::vector<SeenListener> listeners;
  bool other_protocol = false;  ///< something listens on the same number of UDP instead of TCP, or
                                ///< of TCP instead of UDP
  std::optional<ForwardInfo> forward;
  std::optional<EndedForward> ended;  ///< the one before, as far as it is remembered
  std::string asked_by;               ///< as ForwardTable::asked_by says
  std::vector<std::string> tried;     ///< host addresses that could not be had, with who holds them
  bool detached = false;              ///< by hand; it may live, and nothing of it is watched
  bool suppressed = false;            ///< a person ended it, and its listener still lives
  std::size_t auto_forwards = 0;      ///< how many the container has
};

/// The same number of the other protocol.
[[nodiscard]] inline Target other_protocol(const Target& target) {
  return {target.protocol() == Protocol::Tcp ? Protocol::Udp : Protocol::Tcp, target.port_number()};
}

/// @return the keys that Control::explain names, and `container`, `port`
[[nodiscard]] Facts explain(const PolicyContext& policy, const Known& known);

}  // namespace portfwd
