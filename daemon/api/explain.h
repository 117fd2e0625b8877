// Why a port is or isn't forwarded, in sentences: what was seen and when, which rules were tried,
// what decided, which host addresses were tried, how the container is reached, what would change
// it. A pure function of what is known.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "access/access_set.h"
#include "base/facts.h"
#include "discover/registry.h"
#include "forward/events.h"
#include "forward/forward_table.h"
#include "forward/model.h"
#include "policy/policy.h"

namespace portfwd {

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
  std::vector<SeenPort::Seen> listeners;
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

/// Gathers what is known of a port, for explain(): from the registry, the reaches and the table.
/// Made for one question by the Controller. It decides and words nothing.
class Explainer {
 public:
  /// All borrowed.
  struct Parts {
    const Registry& registry;
    const AccessSet& reaches;
    const ForwardTable& table;
    const EventLog& log;
    const Settings& settings;
  };
  explicit Explainer(const Parts& parts) : parts_(parts) {}

  /// @param container as a person names it; "": the one that has this port
  [[nodiscard]] Answer<Facts> explain(std::string_view container, const Target& target) const;

 private:
  [[nodiscard]] Answer<Known> known(std::string_view container, const Target& target) const;
  [[nodiscard]] Answer<Known> known_by_port(const Target& target) const;
  [[nodiscard]] Known present(const ContainerAccess& reach, const Target& target) const;
  [[nodiscard]] Known missing(const ForwardInfo& forward) const;
  /// A port that was forwarded and is not any more, whether or not its container is there. @return
  /// nothing when that is not remembered
  [[nodiscard]] std::optional<Known> past(std::string_view container, const Target& target) const;
  [[nodiscard]] std::optional<EndedForward> ended(std::string_view container,
                                                  const Target& target) const;
  [[nodiscard]] bool is_open(const Target& target) const;
  [[nodiscard]] std::vector<ForwardInfo> forwards_of(const Target& target) const;
  void add_forward(const ForwardInfo& forward, Known& known) const;
  [[nodiscard]] std::vector<std::string> tried(std::string_view forward_id) const;

  Parts parts_;
};

}  // namespace portfwd
