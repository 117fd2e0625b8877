// Files and Unix sockets below a root or folder of another user or container. Paths are resolved as
// they are inside, never through a magic link of /proc.
#pragma once

#include "base/unique_fd.h"
#include "broker/channel.h"
#include "broker/protocol.h"

namespace portfwd::broker {

// Opening of files by untrusted paths. The kernel resolves the path (openat2(2)). Where a seccomp
// filter rejects that call, as those of nspawn and older Docker do, the path is resolved here, one
// component at a time, by the same rules.

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

// Unix sockets at a path inside a container's root. openat2(2) resolves the path below the root
// that the daemon passed; the result is used through /proc/self/fd, since the plain path would
// follow a planted symlink to the host's own sockets.

/// Carries out Op::UnixConnect. EAGAIN: the server's backlog is full, retry.
/// @param root borrowed
Outcome unix_connect(const Request& request, int root, FdBatch& made);

/// Carries out Op::UnixListen. Never replaces a file: EADDRINUSE.
/// @param root borrowed
Outcome unix_listen(const Request& request, int root, FdBatch& made);

}  // namespace portfwd::broker
