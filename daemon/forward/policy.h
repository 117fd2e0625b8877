// Which listeners are worth a forward, and why: pure functions of a listener and the settings.
// Rules per container and process join here; nothing else decides.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "config/settings.h"
#include "watch/watcher.h"

namespace portfwd {

/// What was decided about one (protocol, port) of a container, with the sentence `explain` shows.
struct Decision {
  bool forward = false;
  std::string because;
  std::string on_auto_forward = "notify";
};

/// @param listeners all of one container that have this protocol and port; at least one
[[nodiscard]] Decision decide(const Settings& settings, std::span<const Listener> listeners);

/// Where to dial for these listeners, nearest to loopback first; the relay sorts by the client's
/// family. Ignored addresses are left out.
[[nodiscard]] std::vector<Listener> dialable(const Settings& settings,
                                             std::span<const Listener> listeners);

}  // namespace portfwd
