// Memory that outlives a container, so that a container recreated under the same name gets the same
// host ports and the same address. Owned by HostPorts and saved in the State.
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

/// Names of a container that outlive it, so that a recreated one finds what was stored for the one
/// before. Values are stored under all of its names. Pure.
/// @return the most reliable name first: the labels that tools put on a container each time they
/// create it (compose: project and service; dev container tools: the folder), as "{LABEL=VALUE,
/// ...}"; then its name, which an engine makes up each time unless it was given one
[[nodiscard]] std::vector<std::string> lasting_names(const Container& container);

// An address of 127.0.0.0/8 for each container (allocation = "per-container"): the same name gets
// the same one, whichever other containers exist. Owned by HostPorts. Its entries are saved in
// the State: of two names with the same hash, the one that came first has the address.
class ContainerAddresses {
 public:
  static constexpr std::size_t kKept = 1024;

  struct Assignment {
    IpAddress address;
    bool is_new = false;  ///< it was assigned just now
  };
  /// The container's address, assigned at first use. Never in 127.0.0.0/16, where the user's own
  /// servers are, nor in 127.255.0.0/16, and never with 0 or 255 at its end.
  [[nodiscard]] Assignment address_of(const std::string& container);

  [[nodiscard]] std::vector<ContainerAddress> all() const;
  /// Leaves out addresses that address_of() would not assign, and duplicates.
  void restore(const std::vector<ContainerAddress>& addresses);

 private:
  [[nodiscard]] bool taken(const IpAddress& address) const;

  LruMap<std::string, IpAddress> addresses_{kKept};
};

// The place on the host that the forward of a container's port or socket had last, so that a
// listener that returns gets it again. Its entries are saved in the State.
template <class Entry, auto PlaceOf>
class StickyPlaces {
 public:
  static constexpr std::size_t kKept = 2048;
  using Names = std::vector<std::string>;  ///< see lasting_names()
  using Place = std::remove_cvref_t<decltype(std::declval<Entry>().*PlaceOf)>;

  /// @return the place stored under the first known of the names; null if none is
  [[nodiscard]] const Place* recall(const Names& names, const Target& target) const {
    for (const std::string& name : names) {
      if (const Place* place = places_.find(key(name, target))) return place;
    }
    return nullptr;
  }
  /// Stores the place under all of the names. @return whether one of them had another, or none
  bool remember(const Names& names, const Target& target, const Place& place) {
    bool is_new = false;
    for (const std::string& name : names) is_new |= places_.put(key(name, target), place);
    return is_new;
  }

  [[nodiscard]] std::vector<Entry> all() const {
    std::vector<Entry> out;
    for (const auto& [key, place] : places_.entries())
      out.push_back({std::string(key.first), key.second, place});
    return out;
  }
  void restore(const std::vector<Entry>& entries) {
    for (const Entry& entry : entries)
      (void)remember({entry.container}, entry.target, entry.*PlaceOf);
  }

 private:
  using Key = std::pair<std::pmr::string, Target>;
  static Key key(const std::string& name, const Target& target) {
    return {std::pmr::string(name), target};
  }

  LruMap<Key, Place> places_{kKept};
};
using StickyPorts = StickyPlaces<StickyPort, &StickyPort::host_port>;  ///< owned by HostPorts
using StickyPaths = StickyPlaces<StickyPath, &StickyPath::at>;         ///< owned by HostPaths

}  // namespace portfwd
