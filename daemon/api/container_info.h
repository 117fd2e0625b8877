// A container as it is shown: what discovery and its reach know, and whether the configuration
// ignores it.
#pragma once

#include "access/container_access.h"
#include "config/settings.h"
#include "forward/model.h"

namespace portfwd {

[[nodiscard]] ContainerInfo info_of(const ContainerAccess& reach, const Settings& settings);

}  // namespace portfwd
