#include "forward/model.h"

namespace portfwd {

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
