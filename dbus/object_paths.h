// Ids as object paths and back, escaped as sd_bus_path_encode(3) does: "a1-b" is /…/a1_2db.
// It knows nothing of sdbus-c++.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace portfwd {

inline constexpr const char* kBusName = "org.portfwd1";
inline constexpr const char* kManagerPath = "/org/portfwd1";
inline constexpr const char* kForwardPrefix = "/org/portfwd1/forward";
inline constexpr const char* kContainerPrefix = "/org/portfwd1/container";
inline constexpr const char* kNoPath = "/";  ///< D-Bus has no empty object path

[[nodiscard]] std::string forward_path(std::string_view id);
/// @return kNoPath for an empty id.
[[nodiscard]] std::string container_path(std::string_view id);

/// @return the id in a path of the form `prefix`/ID, nothing for any other path.
[[nodiscard]] std::optional<std::string> id_of_path(const char* prefix, std::string_view path);

}  // namespace portfwd
