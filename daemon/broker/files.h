// Opening of files by untrusted paths, never through a magic link of /proc. The kernel resolves the
// path (openat2(2)). Where a seccomp filter rejects that call, as those of nspawn and older Docker
// do, the path is resolved here, one component at a time, by the same rules.
#pragma once

#include <cstdint>

#include "base/unique_fd.h"

namespace portfwd::broker {

/// Opens a path by openat2(2), close-on-exec, never through a magic link.
/// @param resolve RESOLVE_BENEATH, RESOLVE_IN_ROOT, or 0
/// @return invalid with errno set
[[nodiscard]] UniqueFd open_by_kernel(int folder, const char* path, std::uint64_t flags,
                                      std::uint64_t resolve);

/// Limit of links followed on one path, as in the kernel. Source: path_resolution(7).
inline constexpr int kMostLinksOnPath = 40;
/// Limit of nested folders where the path is resolved here.
inline constexpr int kMostFoldersOnPath = 64;

/// Opens the folder at an absolute path, as O_PATH. Follows links, but no magic links of /proc.
/// @return invalid with errno set; ELOOP: such a link, or too many links
[[nodiscard]] UniqueFd open_folder(const char* path);
/// Opens a file for reading. Follows links that stay below the folder.
/// @param path relative
/// @return invalid with errno set; EXDEV: the path leads out of the folder; ELOOP as above
[[nodiscard]] UniqueFd open_file_beneath(int folder, const char* path);

}  // namespace portfwd::broker
