// Reads a small file that belongs to the user (configuration, state, an engine's own files). A user
// or a program can put anything in its place: a folder, a named pipe, a device, a link to nothing.
// None of these blocks the caller, and none is read without an end.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace portfwd {

enum class Links { Follow, Refuse };

/// 1 MiB: far more than a configuration has.
inline constexpr std::size_t kSmallFile = 1UL << 20;

/// Reads a regular file of at most `limit` bytes. A longer one is an error; it is not cut off.
/// @param links whether the last component of the path can be a symbolic link
/// @return an Error whose code says what there is instead: ENOENT nothing, or with the operation
/// kFollowLink a link to nothing; ENOTDIR a file in place of a folder of the path; EISDIR a folder;
/// ESPIPE a named pipe; ENODEV a device; ENXIO a socket; EFBIG a file that is too large; ELOOP a
/// link that is refused; else the failure of the system call.
[[nodiscard]] Result<std::string> read_small_file(const std::string& path,
                                                  std::size_t limit = kSmallFile,
                                                  Links links = Links::Follow);

inline constexpr std::string_view kFollowLink = "follow the link";

/// For the user: the cause of an error of read_small_file() and what to do about it.
[[nodiscard]] std::string why_unreadable(const Error& error, std::size_t limit = kSmallFile);

}  // namespace portfwd
