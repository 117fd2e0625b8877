// The files of /proc, of cgroups and of sysctls as values. The parsers are pure: bytes in, values
// out; a text that proc(5) does not describe gives nothing. A process chooses its name, arguments
// and host name itself, so they are not trusted.
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
#include "config/settings.h"
#include "kernel/netns.h"

namespace portfwd::procfs {

/// The fields of /proc/PID/stat that are used.
struct Stat {
  pid_t pid = 0;
  std::string comm;  ///< at most 15 bytes, any but NUL: parentheses and blanks too
  char state = '?';  ///< 'Z' for a zombie
  pid_t ppid = 0;
  std::uint64_t started = 0;  ///< clock ticks since boot; with the pid, identifies a process
};
[[nodiscard]] std::optional<Stat> parse_stat(std::string_view text);

/// Effective uid in /proc/PID/status: "Uid: real effective saved filesystem".
[[nodiscard]] std::optional<uid_t> parse_status_uid(std::string_view text);

/// How many ids /proc/PID/uid_map maps: lines of "inside outside count"; user_namespaces(7). 0 when
/// nothing is mapped or a line is malformed.
[[nodiscard]] std::uint64_t mapped_ids(std::string_view text);

/// Whether /proc/PID/uid_map maps this id of the reader's user namespace.
[[nodiscard]] bool maps_id(std::string_view text, std::uint32_t id);

/// The last field of /proc/loadavg: the last pid given out in our pid namespace. While it is the
/// same, no process was started.
[[nodiscard]] std::optional<pid_t> parse_last_pid(std::string_view text);

/// The paths of /proc/PID/cgroup, that of the unified hierarchy ("0::") first; cgroups(7).
[[nodiscard]] std::vector<std::string> parse_cgroup(std::string_view text);
/// The path in the unified hierarchy alone; nothing when it is outside of our cgroup namespace
/// ("/../..").
[[nodiscard]] std::optional<std::string> parse_unified_cgroup(std::string_view text);

/// /proc/PID/cmdline and environ: strings that end in NUL; the last one may have been cut.
[[nodiscard]] std::vector<std::string> split_strings(std::string_view text);

/// The inode in "net:[4026531840]", the target of the link /proc/PID/ns/net, and a root in
/// mountinfo.
[[nodiscard]] std::optional<std::uint64_t> parse_netns_link(std::string_view text);
/// The same for another kind of namespace, such as "user".
[[nodiscard]] std::optional<std::uint64_t> parse_namespace_link(std::string_view text,
                                                                std::string_view kind);

/// The inode in "socket:[12345]", the target of a link /proc/PID/fd/N.
[[nodiscard]] std::optional<std::uint64_t> parse_socket_link(std::string_view text);

/// One line of /proc/PID/mountinfo; the octal escapes of the paths are undone.
struct Mount {
  std::string root;   ///< what of the file system is mounted
  std::string point;  ///< where
  std::string type;
};
[[nodiscard]] std::optional<Mount> parse_mount(std::string_view line);
/// All well-formed lines; others are skipped.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);
}  // namespace portfwd::procfs

namespace portfwd {

// Reads a /proc folder: the processes, their network namespaces, and their files. Holds the folder
// open; one object serves all of discovery. One more descriptor is held in reserve: how a process
// is judged must not depend on how many descriptors the daemon has left.
class ProcDir {
 public:
  static constexpr std::size_t kTextLimit = 4096;  ///< bytes of a cmdline worth reading

  /// @param path an absolute one that stays valid; `valid()` tells whether it could be opened
  explicit ProcDir(std::string path = "/proc");
  [[nodiscard]] bool valid() const noexcept { return fd_.valid(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  struct Entry {
    pid_t pid = 0;
    /// Of the folder /proc/PID: differs for another process with the same pid. The kernel may also
    /// renumber it for the same process when memory is short, so a change only means "read again".
    std::uint64_t inode = 0;
  };
  /// Replaces `out` by all thread groups, ascending by pid.
  Result<void> list(std::vector<Entry>& out) const;

  /// Inode of the process's network namespace. @return EACCES for another user's process, ENOENT
  /// for one that is gone or a zombie.
  [[nodiscard]] Result<std::uint64_t> netns(pid_t pid) const;
  /// Inode of its user namespace; errors as of netns().
  [[nodiscard]] Result<std::uint64_t> userns(pid_t pid) const;
  /// A substitute for netns() where that fails: the inode of the process's net/tcp, which every
  /// user may read, which is the same for all processes of a namespace, and which differs from
  /// every namespace's inode, since the kernel takes both from one pool. Source: fs/proc/generic.c,
  /// proc_alloc_inum.
  /// Fact: ProcNetFacts.EachNamespaceHasFilesOfItsOwn
  [[nodiscard]] Result<std::uint64_t> net_files(pid_t pid) const;
  [[nodiscard]] Result<Netns> open_netns(pid_t pid) const;
  /// Owner of /proc/PID: the process's effective uid, or that of root (of its user namespace) when
  /// it is not dumpable. Source: proc_pid(5)
  [[nodiscard]] Result<uid_t> owner(pid_t pid) const;

  /// The first `limit` bytes of /proc/PID/`file`. Works without a free descriptor too.
  [[nodiscard]] Result<std::string> read(pid_t pid, const char* file,
                                         std::size_t limit = kTextLimit) const;
  /// The process's name, or "" when it is gone.
  [[nodiscard]] std::string comm(pid_t pid) const;
  /// Nothing when it is gone.
  [[nodiscard]] std::optional<procfs::Stat> stat(pid_t pid) const;
  /// Its parent, or 0.
  [[nodiscard]] pid_t parent(pid_t pid) const;

  /// The processes that have these sockets open, by the socket's inode, without sockets for which
  /// none of `pids` is found. Reads each descriptor once, and at most `max_links` in all.
  [[nodiscard]] std::map<std::uint64_t, pid_t> socket_owners(std::span<const pid_t> pids,
                                                             std::set<std::uint64_t> inodes,
                                                             std::size_t max_links = 16384) const;
  /// The name of the process that has one socket open, or "".
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

/// The id of the cgroup at `folder`: the folder's inode, and INET_DIAG_CGROUP_ID of the sockets
/// that its processes make. 0 when it does not exist. Fact:
/// CgroupFacts.TheIdOfASocketsCgroupIsTheInodeOfItsMakersFolder
[[nodiscard]] std::uint64_t cgroup_id_of(const std::string& folder);

/// Whether the cgroup with this id is `folder` or one below it, such as a container's own systemd
/// makes. Reads at most 4096 folders and 16 levels; false for a cgroup beyond them.
[[nodiscard]] bool cgroup_holds(const std::string& folder, std::uint64_t id);
}  // namespace portfwd

namespace portfwd::sysctl {

/// net.ipv4.ip_local_port_range: the range from which the kernel chooses the port of a client. Read
/// on each call; the kernel's default when it cannot be read. Source: ip(7).
[[nodiscard]] PortRange ephemeral_ports();

/// net.ipv4.ip_unprivileged_port_start. Read on each call; 1024 when it cannot be read.
[[nodiscard]] Port first_unprivileged_port();

/// kernel.random.boot_id, which differs after each boot. Read on each call; "" when it cannot be
/// read. Source: random(4).
[[nodiscard]] std::string boot_id();

}  // namespace portfwd::sysctl
