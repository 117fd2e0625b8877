// The D-Bus names of the daemon, shared with its clients.
#pragma once

namespace portfwd {

inline constexpr const char* kBusName = "org.portfwd1";
inline constexpr const char* kManagerPath = "/org/portfwd1";
inline constexpr const char* kForwardPrefix = "/org/portfwd1/forward";
inline constexpr const char* kContainerPrefix = "/org/portfwd1/container";
inline constexpr const char* kManagerInterface = "org.portfwd1.Manager";
inline constexpr const char* kForwardInterface = "org.portfwd1.Forward";
inline constexpr const char* kContainerInterface = "org.portfwd1.Container";
inline constexpr const char* kNoPath = "/";  ///< D-Bus has no empty object path

}  // namespace portfwd
