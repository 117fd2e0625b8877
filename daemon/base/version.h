// Version of portfwd, set by the build system.
#pragma once

#include <string_view>

namespace portfwd {

inline constexpr std::string_view kVersion = PORTFWD_VERSION;

}  // namespace portfwd
