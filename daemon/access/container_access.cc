#include "access/container_access.h"

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

std::string_view name_of(AccessKind v) {
  switch (v) {
    case AccessKind::None:
      return "none";
    case AccessKind::Broker:
      return "broker";
    case AccessKind::Helper:
      return "helper";
    case AccessKind::Bridge:
      return "bridge";
  }
  return "";
}

std::string_view how(AccessKind v) {
  switch (v) {
    case AccessKind::None:
      return "not at all";
    case AccessKind::Broker:
      return "entered through broker: its own loopback is dialled";
    case AccessKind::Helper:
      return "entered through helper: its own loopback is dialled";
    case AccessKind::Bridge:
      return "seen from outside: its own address is dialled, its loopback can't be";
  }
  return "";
}

}  // namespace portfwd
