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

}  // namespace portfwd
