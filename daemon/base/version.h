// The version as the build system has it.
#pragma once

#include <string_view>

namespace portfwd {

inline constexpr std::string_view kVersion = PORTFWD_VERSION;

}  // namespace portfwd
