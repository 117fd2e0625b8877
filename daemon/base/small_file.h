// Reads a small file that belongs to the user (configuration, state, an engine's own files). A user
// or a program can put anything in its place: a folder, a named pipe, a device, a link to nothing.
// None of these blocks the caller, and none is read without an end.
#pragma once

#include <cstddef>
#include <expected>
#include <string>

#include "base/error.h"

namespace portfwd {

/// Why a file was not read. More than an errno, since no errno tells a pipe from a device.
struct UnreadableFile {
  enum class Kind {
    Missing,
    NoFolder,
    DanglingLink,
    Folder,
    Pipe,
    Device,
    Socket,
    TooLarge,
    Failed
  };
  Kind kind = Kind::Failed;
  Error error;            ///< of Failed, Missing and NoFolder: the system call that failed
  std::size_t limit = 0;  ///< of TooLarge

  [[nodiscard]] std::string text() const;  ///< the cause and what to do about it
};

enum class Links { Follow, Refuse };

/// 1 MiB: far more than a configuration has.
inline constexpr std::size_t kSmallFile = 1UL << 20;

/// Reads a regular file of at most `limit` bytes. A longer one is an error; it is not cut off.
/// @param links whether the last component of the path can be a symbolic link
[[nodiscard]] std::expected<std::string, UnreadableFile> read_small_file(
    const std::string& path, std::size_t limit = kSmallFile, Links links = Links::Follow);

}  // namespace portfwd
