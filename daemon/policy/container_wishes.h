// What containers ask for themselves: labels, their programs' environment, and the metadata of dev
// containers, of the label and of the devcontainer.json of their folder. Owned by the ForwardTable,
// which tells it of every container; taken in once for each and again when its labels change. The
// user's own rules and forwards come first; policy and the table see to that.
//
// A container that has gone keeps its wishes for kReplacement, so that one which is made anew finds
// its host ports held. They give way to those of the new one, known by its lasting names, as soon
// as its labels are known, which its engine tells some time after it was found. What the engine
// publishes is no wish any more, nor will it be while the container is away: the engine is going to
// need that host port for the new one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "access/listener.h"
#include "base/clock.h"
#include "base/recent_map.h"
#include "config/settings.h"
#include "devcontainer/port_metadata.h"
#include "discover/container.h"

namespace portfwd {

/// About one port; it can ask for nothing that opens the port to anybody else.
struct Attributes {
  std::optional<std::string> on_auto_forward;
  std::string label;
  std::optional<std::string> scheme;
  bool require_host_port = false;
  bool unmatched = false;  ///< expressions might say more if the program could be seen
  bool elevate = false;    ///< a privileged host port is wished for, which we never take by force
  std::string source;      ///< who says so, as the beginning of a sentence; "" when nobody does
};

class ContainerWishes {
 public:
  static constexpr Duration kReplacement = std::chrono::minutes(1);

  explicit ContainerWishes(const Clock& clock) : clock_(clock) {}

  /// A container that has come or changed. @return whether declared() is not what it was
  bool update(const Container& container);
  void gone(const Container& container, TimePoint now);
  /// Names of those that have gone and are this container made anew, as far as its labels tell: see
  /// lasting_names(). To be asked before update().
  [[nodiscard]] std::vector<std::string> predecessors(const Container& container) const;
  /// Forgets those that were not made anew. @return whether declared() is not what it was
  bool forget(TimePoint now);
  /// When to forget() next; nothing while none is gone.
  [[nodiscard]] std::optional<TimePoint> forget_at() const;

  /// The ports that are to be forwarded whether or not anything listens, by container, but those
  /// that its engine publishes where clients of the loopback find them. One of a compose service
  /// that is not there yet is left out until it is.
  [[nodiscard]] std::vector<DeclaredForward> declared() const;
  [[nodiscard]] Attributes attributes(const Container& container, const Listener& listener) const;
  /// About all of its ports.
  [[nodiscard]] static Attributes attributes(const Container& container);

 private:
  /// What expressions made of command lines, so that each is matched once. A container chooses
  /// both: what matching costs in a second is bounded, and beyond that an expression matches
  /// nothing yet.
  struct Matched {
    static constexpr std::size_t kCommands = 64;
    static constexpr double kMostSteps = 4e6;     // some 20 ms
    static constexpr double kStepsASecond = 2e6;  // some 1 % of a core

    RecentMap<std::string, const devcontainer::PortAttributes*> known{kCommands};
    double steps = kMostSteps;
    TimePoint at{};
  };
  struct Known {
    std::string name;
    std::vector<std::string> names;  ///< lasting ones, the name among them
    std::string project;             ///< compose's, as the next
    std::string service;
    std::map<std::string, std::string> labels;
    std::shared_ptr<const devcontainer::PortMetadata> said;  ///< by label and file; null: nothing
    std::vector<PublishedPorts> published;                   ///< by its engine
    std::optional<TimePoint> gone;
    mutable Matched matched{};

    [[nodiscard]] const devcontainer::PortMetadata& metadata() const;
  };
  [[nodiscard]] const Known* service_of(const Known& of, const std::string& service) const;
  [[nodiscard]] const devcontainer::PortAttributes* find(const Container& container, Port port,
                                                         const std::string& command) const;

  [[nodiscard]] const devcontainer::PortAttributes* find_own(const Known& known, Port port,
                                                             const std::string& command) const;

  const Clock& clock_;
  std::map<std::string, Known> known_;  ///< by container id
};

}  // namespace portfwd
