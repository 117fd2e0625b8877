// Reading of small files: configuration, state, an engine's own files, /etc/subuid. A user or a
// program can put anything in the place of such a file: a folder, a named pipe, a device, a
// dangling link. None of these is read, and none blocks the caller.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace portfwd {

enum class Links { Follow, Refuse };

/// Default limit in bytes; a configuration is far smaller.
inline constexpr std::size_t kSmallFile = 1UL << 20;

/// Reads a regular file of at most `limit` bytes. A longer one is an error; it is not cut off.
/// @param links whether the last component of the path may be a symbolic link
/// @return an Error whose code says what was found instead: ENOENT nothing, or a dangling link if
/// the operation is kFollowLink; ENOTDIR a file in place of a folder of the path; EISDIR a folder;
/// ESPIPE a named pipe; ENODEV a device; ENXIO a socket; EFBIG a file that is too large; ELOOP a
/// link that is not permitted, or a loop of links; otherwise the error of the system call.
[[nodiscard]] Result<std::string> read_small_file(const std::string& path,
                                                  std::size_t limit = kSmallFile,
                                                  Links links = Links::Follow);

inline constexpr std::string_view kFollowLink = "follow the link";

/// The cause of an error of read_small_file(), for the user, with the remedy where one is known.
/// @param limit the one that was passed to read_small_file()
[[nodiscard]] std::string unreadable_reason(const Error& error, std::size_t limit = kSmallFile);

}  // namespace portfwd
