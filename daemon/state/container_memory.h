// What outlives a container, so that one which is made anew under the same name gets the same host
// ports and the same address. Owned by the ForwardTable and saved in the State.
#pragma once

#include <memory_resource>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/recent_map.h"
#include "discover/container.h"
#include "state/state.h"

namespace portfwd {

// What a container is called for longer than it lives, so that one which is made anew finds what
// was remembered of the one before. Pure; whoever remembers does so under all of them.
/// The surest first: the labels that tools put on a container each time they make it (compose its
/// project and service, dev container tools the folder), as "{LABEL=VALUE, ...}"; then its name,
/// which an engine that was not told one makes up anew each time.
[[nodiscard]] std::vector<std::string> lasting_names(const Container& container);

// An address of 127.0.0.0/8 for each container (allocation = "per-container"): the same one for the
// same name, whatever comes and goes. Owned by the ForwardTable; its entries outlive the daemon in
// the State, since which of two names came first decides when they would have the same address.
class ContainerAddresses {
 public:
  static constexpr std::size_t kKept = 1024;

  struct Given {
    IpAddress address;
    bool news = false;  ///< it was made up just now
  };
  /// The container's address. Never of 127.0.0.0/16, where everybody's own servers are, nor of
  /// 127.255.0.0/16, and never with 0 or 255 at its end.
  [[nodiscard]] Given address_of(const std::string& container);

  [[nodiscard]] std::vector<ContainerAddress> all() const;
  /// Addresses that address_of() would not give, and second ones, are left out.
  void restore(const std::vector<ContainerAddress>& addresses);

 private:
  [[nodiscard]] bool taken(const IpAddress& address) const;

  RecentMap<std::string, IpAddress> addresses_{kKept};
};

// The host port that a container's port had last, so that a listener which returns gets it again.
// Owned by the ForwardTable; its entries outlive the daemon in the State.
class StickyPorts {
 public:
  static constexpr std::size_t kKept = 2048;
  using Names = std::vector<std::string>;  ///< see lasting_names()

  /// @return what is remembered under the first of the names that is known
  [[nodiscard]] std::optional<Port> recall(const Names& names, const Target& target) const {
    for (const std::string& name : names) {
      if (const Port* port = ports_.find(key(name, target))) return *port;
    }
    return std::nullopt;
  }
  /// Under all of the names. @return whether this is news: it was another one before, or none
  bool remember(const Names& names, const Target& target, Port port) {
    bool news = false;
    for (const std::string& name : names) news |= ports_.put(key(name, target), port);
    return news;
  }

  [[nodiscard]] std::vector<StickyPort> all() const {
    std::vector<StickyPort> out;
    for (const auto& [key, port] : ports_.entries())
      out.push_back({std::string(key.first), key.second, port});
    return out;
  }
  void restore(const std::vector<StickyPort>& ports) {
    for (const StickyPort& p : ports) (void)remember({p.container}, p.target, p.host_port);
  }

 private:
  using Key = std::pair<std::pmr::string, Target>;
  static Key key(const std::string& name, const Target& target) {
    return {std::pmr::string(name), target};
  }

  RecentMap<Key, Port> ports_{kKept};
};

}  // namespace portfwd
