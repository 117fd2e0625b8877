// A container as it is shown: what discovery and its reach know, and whether the configuration
// ignores it.
#pragma once

#include "config/settings.h"
#include "forward/model.h"
#include "reach/reach.h"

namespace portfwd {

[[nodiscard]] ContainerInfo info_of(const Reach& reach, const Settings& settings);

}  // namespace portfwd
