// Reads a /proc folder: which processes there are, in which network namespace each is, and their
// texts. Holds the folder open; one object serves all of discovery. It decides nothing. One more
// descriptor is held in reserve: what a process is must not depend on how many the daemon has left.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"

namespace portfwd {

class ProcDir {
 public:
  static constexpr std::size_t kTextLimit = 4096;  ///< bytes of a cmdline worth reading

  /// @param path an absolute one that stays valid; `valid()` tells whether it could be opened
  explicit ProcDir(std::string path = "/proc");
  [[nodiscard]] bool valid() const noexcept { return fd_.valid(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  struct Entry {
    pid_t pid = 0;
    /// Of the folder /proc/PID: another process that got this pid has another one. The kernel may
    /// also renumber it for the same process when memory is short, so a change only means "look".
    std::uint64_t inode = 0;
  };
  /// Replaces `out` by all thread groups, ascending by pid.
  Result<void> list(std::vector<Entry>& out) const;

  /// Inode of the process's network namespace. @return EACCES for another user's process, ENOENT
  /// for one that is gone or a zombie.
  [[nodiscard]] Result<std::uint64_t> netns(pid_t pid) const;
  /// Inode of its user namespace; errors as of netns().
  [[nodiscard]] Result<std::uint64_t> userns(pid_t pid) const;
  /// What stands for it where it can't be seen: the inode of the process's net/tcp, which is
  /// anybody's to look at, the same for all processes of a namespace and no namespace's own number,
  /// since the kernel gives out both from one pool. Source: fs/proc/generic.c, proc_alloc_inum.
  /// Fact: ProcNetFacts.EachNamespaceHasFilesOfItsOwn
  [[nodiscard]] Result<std::uint64_t> net_files(pid_t pid) const;
  [[nodiscard]] Result<Netns> open_netns(pid_t pid) const;
  /// Owner of /proc/PID: the process's effective uid, or that of root (of its user namespace) when
  /// it is not dumpable. Source: proc_pid(5)
  [[nodiscard]] Result<uid_t> owner(pid_t pid) const;

  /// The first `limit` bytes of /proc/PID/`file`; without a free descriptor, too.
  [[nodiscard]] Result<std::string> read(pid_t pid, const char* file,
                                         std::size_t limit = kTextLimit) const;
  /// The process's name, or "" when it is gone.
  [[nodiscard]] std::string comm(pid_t pid) const;
  /// Nothing when it is gone.
  [[nodiscard]] std::optional<procfs::Stat> stat(pid_t pid) const;
  /// Its parent, or 0.
  [[nodiscard]] pid_t parent(pid_t pid) const;

  /// The processes that have these sockets open, by the socket's inode; those that none of `pids`
  /// can be seen to have are left out. Looks at each descriptor once, and at no more than
  /// `max_links` in all.
  [[nodiscard]] std::map<std::uint64_t, pid_t> socket_owners(std::span<const pid_t> pids,
                                                             std::set<std::uint64_t> inodes,
                                                             std::size_t max_links = 16384) const;
  /// The same for one socket, by name; "" for nobody.
  [[nodiscard]] std::string socket_owner(std::span<const pid_t> pids, std::uint64_t inode,
                                         std::size_t max_links = 4096) const;

 private:
  [[nodiscard]] Result<std::uint64_t> namespace_of(pid_t pid, std::string_view file,
                                                   std::string_view kind) const;

  std::string path_;
  UniqueFd fd_;
  mutable UniqueFd reserve_;  ///< its number is free while read() needs it
};

/// The whole of a file that grows as it is read, up to `limit` bytes. @param dir or AT_FDCWD
[[nodiscard]] Result<std::string> read_text(int dir, const char* path, std::size_t limit);

}  // namespace portfwd
