// Port settings that containers request themselves: by labels, by the environment of their
// programs, and by dev container metadata (of the label, and of the devcontainer.json of their
// folder). Owned by Declarations; RequestedForwards updates it for each watched container. Metadata
// is read when a container is found and when its labels or metadata change. The user's own rules
// and forwards take precedence, which the policy and Declarations ensure.
//
// The requests of a container outlive it by kReplacement, so that its host ports are still held
// when it is made again. The new container, recognized by its lasting names, replaces the old
// requests when its labels are known, some time after it was found, once the engine has answered. A
// port that the engine publishes is left out, also while the container is away: the engine will
// need that host port for the new container.
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

/// What a container requests for one port. It cannot open the port to other users or machines.
struct Attributes {
  std::optional<std::string> on_auto_forward;
  std::string label;
  std::optional<std::string> scheme;
  bool require_host_port = false;
  bool unmatched = false;  ///< the command line is unknown, so expressions were not tried
  bool elevate = false;    ///< elevateIfNeeded: a privileged host port, never granted
  std::string source;      ///< a clause that names the source; "" if there is none
};

class MetadataPolicy {
 public:
  static constexpr Duration kReplacement = std::chrono::minutes(1);

  explicit MetadataPolicy(const Clock& clock) : clock_(clock) {}

  /// Must be called for a new or changed container. @return whether declared() has changed
  bool update(const Container& container);
  void gone(const Container& container, TimePoint now);
  /// The names of gone containers that share a lasting_names() entry with this one, which so
  /// replaces them. Must be called before update(), which forgets them.
  [[nodiscard]] std::vector<std::string> predecessors(const Container& container) const;
  /// Forgets gone containers after kReplacement. @return whether declared() has changed
  bool forget(TimePoint now);
  /// When forget() is due next; nothing if no container is gone.
  [[nodiscard]] std::optional<TimePoint> forget_at() const;

  /// The ports that metadata wants forwarded whether or not anything listens there. Left out are
  /// ports that the engine publishes on the host's loopback, and ports of a compose service that
  /// has no container yet.
  [[nodiscard]] std::vector<DeclaredForward> declared() const;
  [[nodiscard]] Attributes attributes(const Container& container, const Listener& listener) const;
  /// What the container requests for all of its ports.
  [[nodiscard]] static Attributes attributes(const Container& container);

 private:
  /// A cache of the attributes that expressions yield for command lines. The container chooses
  /// both, so the cost of matching is rate-limited; above the limit no expression matches.
  struct Matched {
    static constexpr std::size_t kCommands = 64;
    static constexpr double kMostSteps = 4e6;     // about 20 ms
    static constexpr double kStepsASecond = 2e6;  // about 1 % of a core

    LruMap<std::string, const devcontainer::PortAttributes*> known{kCommands};
    double steps = kMostSteps;
    TimePoint at{};
  };
  struct Known {
    std::string name;
    std::vector<std::string> names;  ///< lasting_names()
    std::string project;             ///< of compose
    std::string service;             ///< of compose
    std::map<std::string, std::string> labels;
    std::shared_ptr<const devcontainer::PortMetadata> said;  ///< of label and file; null: none
    std::vector<PublishedPorts> published;                   ///< by its engine
    std::optional<TimePoint> gone;  ///< when it was removed; nothing while it exists
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
