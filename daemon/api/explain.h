// Explanation of why a port is or is not forwarded: what was seen and when, which rules were tried,
// what decided, which host addresses were tried, how the container is accessed, and the remedy.
// Explainer collects the state of the port; explain() is a pure function of it.
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

/// The state of one port of one container.
struct PortState {
  const Container* subject = nullptr;  ///< for the rules; null for a missing container
  ContainerInfo container;             ///< for display; a missing one has a name, perhaps a pid
  Target target;
  std::vector<SeenPort::Seen> listeners;
  bool other_protocol = false;  ///< there is a listener on the port of other_protocol()
  std::optional<ForwardInfo> forward;
  std::optional<EndedForward> ended;  ///< the previous forward, if the event log still has it
  std::string asked_by;               ///< ForwardRequest::asked_by; "" for a detected forward
  std::vector<std::string> tried;     ///< host addresses that are taken, with their holders
  bool detached = false;              ///< the user detached the container, which may still run
  bool suppressed = false;            ///< the user ended the forward and the listener still exists
  std::size_t auto_forwards = 0;      ///< see SeenPort::automatic
  bool full = false;                  ///< see SeenPort::full
};

/// The same port number with the other protocol; nothing for a target that is not a port.
[[nodiscard]] inline std::optional<Target> other_protocol(const Target& target) {
  const PortTarget* port = target.port();
  if (port == nullptr) return std::nullopt;
  return Target{port->protocol == Protocol::Tcp ? Protocol::Udp : Protocol::Tcp, port->port};
}

/// @return the facts that Control::explain names, and more
[[nodiscard]] Facts explain(const PolicyContext& policy, const PortState& known);

/// Collects the state of a port from the registry, the accesses, the forward table and the event
/// log. Created by the Controller for each request.
class Explainer {
 public:
  /// All members are borrowed.
  struct Parts {
    const Registry& registry;
    const AccessSet& access_set;
    const ForwardTable& table;
    const EventLog& log;
    const Settings& settings;
  };
  explicit Explainer(const Parts& parts) : parts_(parts) {}

  /// @param container its name, id or a prefix of its id; "" for the only container with this port
  [[nodiscard]] Answer<Facts> explain(std::string_view container, const Target& target) const;

 private:
  [[nodiscard]] Target listed_as(const Target& asked) const;
  [[nodiscard]] Answer<PortState> known(std::string_view container, const Target& target) const;
  [[nodiscard]] Answer<PortState> known_by_port(const Target& target) const;
  [[nodiscard]] PortState present(const ContainerAccess& reach, const Target& target) const;
  [[nodiscard]] PortState missing(const ForwardInfo& forward, const Target& target) const;
  /// The state of a port that was forwarded earlier, whether or not its container still exists.
  /// @return none when the event log has no such forward
  [[nodiscard]] std::optional<PortState> past(std::string_view container,
                                              const Target& target) const;
  [[nodiscard]] std::optional<EndedForward> ended(std::string_view container,
                                                  const Target& target) const;
  [[nodiscard]] bool is_open(const Target& target) const;
  [[nodiscard]] std::vector<ForwardInfo> forwards_of(const Target& target) const;
  void add_forward(const ForwardInfo& forward, PortState& known) const;
  [[nodiscard]] std::vector<std::string> tried(std::string_view forward_id) const;

  Parts parts_;
};

}  // namespace portfwd
