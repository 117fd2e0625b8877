// What a container itself asks for about one of its ports, through labels, its programs'
// environment and later its engine's metadata. It comes after the user's rules and before the
// defaults, and can ask for nothing that opens a port to anybody else.
#pragma once

#include <optional>
#include <string>

#include "discover/container.h"
#include "watch/watcher.h"

namespace portfwd {

struct Attributes {
  std::optional<std::string> on_auto_forward;
  std::string source;  ///< who says so, as the beginning of a sentence; "" when nobody does
};

[[nodiscard]] Attributes attributes_of(const Container& container, const Listener& listener);
/// What it asks for about all of its ports.
[[nodiscard]] Attributes attributes_of(const Container& container);

}  // namespace portfwd
