// Files and Unix sockets below a root or folder of another user or container. Paths are resolved as
// inside of it, never through a link of /proc.
#pragma once

#include "base/unique_fd.h"
#include "broker/channel.h"
#include "broker/protocol.h"

namespace portfwd::broker {

// Opens files by paths that are not trusted. The kernel resolves the path (openat2(2)); where the
// call is rejected, as by the seccomp filter of nspawn and of older Docker, the path is walked
// here, a component at a time, by the same rules.

/// Links that are followed on one path, as in the kernel. Source: path_resolution(7).
inline constexpr int kMostLinksOnPath = 40;
/// Folders below each other where the path is walked here.
inline constexpr int kMostFoldersOnPath = 64;

/// Opens the folder at an absolute path, as O_PATH. Links are followed, those of /proc are not.
/// @return invalid with errno set; ELOOP: a link of /proc, or too many
[[nodiscard]] UniqueFd open_folder(const char* path);
/// Opens a file for reading. Links are followed that stay below the folder.
/// @param path relative
/// @return invalid with errno set; EXDEV: it leads out of the folder; ELOOP as above
[[nodiscard]] UniqueFd open_file_beneath(int folder, const char* path);

// Unix sockets at a path inside a container's root. The path is resolved by openat2(2) below the
// root that the daemon passed, and then used through /proc/self/fd: the plain path would follow a
// planted symlink to the host's own sockets.

/// Op::UnixConnect. EAGAIN: the server's backlog is full, ask again. @param root borrowed
Outcome unix_connect(const Request& request, int root, FdBatch& made);

/// Op::UnixListen. Never replaces a file: EADDRINUSE. @param root borrowed
Outcome unix_listen(const Request& request, int root, FdBatch& made);

}  // namespace portfwd::broker
