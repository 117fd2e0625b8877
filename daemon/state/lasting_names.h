// What a container is called for longer than it lives, so that one which is made anew finds what
// was remembered of the one before. Pure; whoever remembers does so under all of them.
#pragma once

#include <string>
#include <vector>

#include "discover/container.h"

namespace portfwd {

/// The surest first: the labels that tools put on a container each time they make it (compose its
/// project and service, dev container tools the folder), as "{LABEL=VALUE, ...}"; then its name,
/// which an engine that was not told one makes up anew each time.
[[nodiscard]] std::vector<std::string> lasting_names(const Container& container);

}  // namespace portfwd
