// Unix sockets of a container or of the host: connects and binds them at paths and abstract names,
// and removes paths that were bound. Called by a broker for paths or names (Home), which owns the
// state between requests. The container is hostile: it may replace any file and folder at any time.
//
// Look-ups: openat2(2) resolves a path below the root that the daemon passed and never follows a
// magic link; the result is a descriptor, which is used through /proc/self/fd, since the plain path
// would follow a planted symlink to the host's own sockets. The last component is followed only to
// connect. A file system that does not answer blocks the broker, which the daemon then kills.
//
// What is created: a socket is bound inside a *stage*, a folder of mode 0700 beside the path, gets
// its owner there, and is renamed to its place, which fails if the name is in use
// (RENAME_NOREPLACE). A socket is replaced by exchanging the two (RENAME_EXCHANGE), so that the
// name always exists; the old one is then inspected in the stage, and exchanged back if another
// file had taken the name.
//
// What is removed: a file is renamed to a random name in its folder, inspected there, and removed,
// or renamed back if it is not the one that was meant. A program that creates files at the original
// name never meets the random one. If another file has its name by then, it keeps the random one.
// File systems without these flags of renameat2(2) are refused (EINVAL). A broker that is killed
// meanwhile leaves a stage behind, with nothing in it but its own socket or one that it was
// replacing.
#pragma once

#include <sys/types.h>

#include "broker/channel.h"
#include "broker/protocol.h"

namespace portfwd::broker {

/// The ids of a broker, real, effective and saved, in the user namespace that it has joined.
struct Ids {
  uid_t uid = 0;
  gid_t gid = 0;
  bool known = false;  ///< false: not mapped there, so the broker cannot return to them
};

/// Determines the ids after the user namespace was joined and capabilities were dropped. Becomes
/// root there if its own ids are not mapped and root is, because an unmapped user can create no
/// file. May be called before the system calls are filtered only.
[[nodiscard]] Ids determine_ids();

class UnixSockets {
 public:
  /// @param home borrowed; the network namespace to return to, -1: no other can be entered
  UnixSockets(Ids own, int home) : own_(own), home_(home) {}

  /// Carries out Op::UnixConnect. EAGAIN: the server's backlog is full, retry. ENOTSOCK: the path
  /// is another kind of file, which is not opened.
  /// @param fd borrowed; see Op
  Outcome connect(const Request& request, int fd, FdBatch& made, FileReport& file) const;

  /// Carries out Op::UnixListen. EADDRINUSE: a socket is there; EEXIST: another file is.
  Outcome listen(const Request& request, int fd, FdBatch& made, FileReport& file) const;

  /// Carries out Op::UnixRemove. ENOENT: it is gone; ESTALE: another file is there, and stays.
  Outcome remove(const Request& request, int root, FileReport& file) const;

 private:
  class PeerIds;
  Outcome make_socket(const Request& request, int netns, UniqueFd& made) const;
  Outcome listen_at_path(const Request& request, int root, const UniqueFd& socket,
                         FileReport& file) const;

  Ids own_;
  int home_;
};

}  // namespace portfwd::broker
