// Gathers what is known of a port, for explain(): from the registry, the reaches and the table.
// Made for one question by the Controller. It decides and words nothing.
#pragma once

#include <optional>
#include <string_view>

#include "access/access_set.h"
#include "discover/registry.h"
#include "forward/event_log.h"
#include "forward/explain.h"
#include "forward/forward_table.h"

namespace portfwd {

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

  Parts parts_;
};

}  // namespace portfwd
