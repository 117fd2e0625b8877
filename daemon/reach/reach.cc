#include "reach/reach.h"

namespace portfwd {

std::string_view name_of(ContainerState v) {
  switch (v) {
    case ContainerState::Watched:
      return "watched";
    case ContainerState::Inaccessible:
      return "inaccessible";
    case ContainerState::Ignored:
      return "ignored";
  }
  return "";
}

std::string_view name_of(ReachKind v) {
  switch (v) {
    case ReachKind::None:
      return "none";
    case ReachKind::Broker:
      return "broker";
    case ReachKind::Helper:
      return "helper";
    case ReachKind::Bridge:
      return "bridge";
  }
  return "";
}

std::string_view how(ReachKind v) {
  switch (v) {
    case ReachKind::None:
      return "not at all";
    case ReachKind::Broker:
      return "entered through broker: its own loopback is dialled";
    case ReachKind::Helper:
      return "entered through helper: its own loopback is dialled";
    case ReachKind::Bridge:
      return "seen from outside: its own address is dialled, its loopback can't be";
  }
  return "";
}

}  // namespace portfwd
