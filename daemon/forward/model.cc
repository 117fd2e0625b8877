#include "forward/model.h"

#include <cerrno>

#include "base/descriptors.h"

namespace portfwd {

std::string_view remedy_of(const ForwardInfo& conflict) {
  if (is_descriptor_shortage({conflict.error, "bind"})) return kMoreDescriptors;
  if (conflict.direction == Direction::Reverse) return "";
  switch (conflict.error) {
    case EADDRNOTAVAIL:
      return "name an address of this machine as its bind (`ip address` lists them)";
    case EACCES:
      return "name another host port, or lower the sysctl net.ipv4.ip_unprivileged_port_start";
    case kNotForOthers:
      return "set allow_remote = true in [host] of config.toml, then `portfwdctl reload`";
    default:
      return "";
  }
}

std::string_view name_of(Origin v) {
  switch (v) {
    case Origin::Auto:
      return "auto";
    case Origin::Declared:
      return "declared";
    case Origin::Manual:
      return "manual";
  }
  return "";
}

std::string_view name_of(ForwardState v) {
  switch (v) {
    case ForwardState::Active:
      return "active";
    case ForwardState::Waiting:
      return "waiting";
    case ForwardState::Lingering:
      return "lingering";
    case ForwardState::Conflict:
      return "conflict";
  }
  return "";
}

std::string_view name_of(Direction v) {
  return v == Direction::In ? "in" : "reverse";
}

std::string_view name_of(Event::Type v) {
  switch (v) {
    case Event::Type::PortAdded:
      return "PortAdded";
    case Event::Type::PortRemoved:
      return "PortRemoved";
    case Event::Type::ContainerAdded:
      return "ContainerAdded";
    case Event::Type::ContainerRemoved:
      return "ContainerRemoved";
    case Event::Type::Gap:
      return "Gap";
  }
  return "";
}

}  // namespace portfwd
