// Files of /proc, of cgroups and of sysctls as values. The parsers are pure: bytes in, values out;
// a text that proc(5) does not describe yields nothing. A process chooses its own name, arguments
// and host name, so these are not trusted.
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
  std::string comm;  ///< at most 15 bytes, any but NUL: also parentheses and blanks
  char state = '?';  ///< 'Z' for a zombie
  pid_t ppid = 0;
  std::uint64_t started = 0;  ///< clock ticks since boot; with the pid, identifies a process
};
[[nodiscard]] std::optional<Stat> parse_stat(std::string_view text);

/// Effective uid in /proc/PID/status: "Uid: real effective saved filesystem".
[[nodiscard]] std::optional<uid_t> parse_status_uid(std::string_view text);

/// Likewise the group.
[[nodiscard]] std::optional<gid_t> parse_status_gid(std::string_view text);

/// Number of ids that /proc/PID/uid_map maps: lines of "inside outside count"; user_namespaces(7).
/// 0 when nothing is mapped or a line is malformed.
[[nodiscard]] std::uint64_t mapped_ids(std::string_view text);

/// Whether /proc/PID/uid_map maps this id of the reader's user namespace.
[[nodiscard]] bool maps_id(std::string_view text, std::uint32_t id);
/// The id in the process's user namespace; nothing if it is not mapped.
[[nodiscard]] std::optional<std::uint32_t> inner_id(std::string_view text, std::uint32_t id);

/// The last field of /proc/loadavg: the last pid assigned in our pid namespace. While it is
/// unchanged, no process was started.
[[nodiscard]] std::optional<pid_t> parse_last_pid(std::string_view text);

/// The paths in /proc/PID/cgroup, the one of the unified hierarchy ("0::") first; cgroups(7).
[[nodiscard]] std::vector<std::string> parse_cgroup(std::string_view text);
/// Only the path in the unified hierarchy; nothing when it is outside our cgroup namespace
/// ("/../..").
[[nodiscard]] std::optional<std::string> parse_unified_cgroup(std::string_view text);

/// Splits /proc/PID/cmdline or environ: strings that end in NUL; the last may be truncated.
[[nodiscard]] std::vector<std::string> split_strings(std::string_view text);

/// The inode in "net:[4026531840]": the target of the link /proc/PID/ns/net, or a root in
/// mountinfo.
[[nodiscard]] std::optional<std::uint64_t> parse_netns_link(std::string_view text);
/// The same for another kind of namespace, such as "user".
[[nodiscard]] std::optional<std::uint64_t> parse_namespace_link(std::string_view text,
                                                                std::string_view kind);

/// The inode in "socket:[12345]", the target of a link /proc/PID/fd/N.
[[nodiscard]] std::optional<std::uint64_t> parse_socket_link(std::string_view text);

/// One line of /proc/PID/mountinfo, with the octal escapes in its paths decoded.
struct Mount {
  std::string root;   ///< the part of the file system that is mounted
  std::string point;  ///< the mount point
  std::string type;
};
[[nodiscard]] std::optional<Mount> parse_mount(std::string_view line);
/// All well-formed lines; others are skipped.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);
}  // namespace portfwd::procfs

namespace portfwd {

// Reads a /proc folder: the processes, their network namespaces, and their files. Holds the folder
// open, and one more descriptor in reserve: what is read of a process must not depend on how many
// descriptors the daemon has left.
class ProcDir {
 public:
  static constexpr std::size_t kTextLimit = 4096;  ///< bytes that read() reads by default

  /// @param path absolute; `valid()` says whether it could be opened
  explicit ProcDir(std::string path = "/proc");
  [[nodiscard]] bool valid() const noexcept { return fd_.valid(); }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  struct Entry {
    pid_t pid = 0;
    /// Of the folder /proc/PID: differs for another process with the same pid. The kernel may also
    /// renumber it for the same process when memory is short, so a change only means "read again".
    std::uint64_t inode = 0;
  };
  /// Replaces `out` with all thread groups, ascending by pid.
  Result<void> list(std::vector<Entry>& out) const;

  /// Inode of the process's network namespace. @return EACCES for another user's process, ENOENT
  /// for a process that has ended or is a zombie
  [[nodiscard]] Result<std::uint64_t> netns(pid_t pid) const;
  /// Inode of its user namespace; errors as for netns().
  [[nodiscard]] Result<std::uint64_t> userns(pid_t pid) const;
  /// A substitute for netns() where that fails: the inode of the process's net/tcp. Every user may
  /// read it, it is the same for all processes of a namespace, and it differs from every
  /// namespace's inode, since the kernel takes both from one pool. Source: fs/proc/generic.c,
  /// proc_alloc_inum.
  /// Fact: ProcNetFacts.NetFilesHaveAnInodePerNamespace
  [[nodiscard]] Result<std::uint64_t> net_files(pid_t pid) const;
  [[nodiscard]] Result<Netns> open_netns(pid_t pid) const;
  /// Owner of /proc/PID: the process's effective uid, or root (of its user namespace) when the
  /// process is not dumpable. Source: proc_pid(5)
  [[nodiscard]] Result<uid_t> owner(pid_t pid) const;

  /// Reads the first `limit` bytes of /proc/PID/`file`. Works even without a free descriptor.
  [[nodiscard]] Result<std::string> read(pid_t pid, const char* file,
                                         std::size_t limit = kTextLimit) const;
  /// The process's name; "" when it has ended.
  [[nodiscard]] std::string comm(pid_t pid) const;
  /// Nothing when the process has ended.
  [[nodiscard]] std::optional<procfs::Stat> stat(pid_t pid) const;
  /// Pid of the process's parent, or 0.
  [[nodiscard]] pid_t parent(pid_t pid) const;

  /// Finds the processes that have these sockets open, by the socket's inode. Sockets that none of
  /// `pids` has open are left out. Reads each descriptor once, and at most `max_links` in all.
  [[nodiscard]] std::map<std::uint64_t, pid_t> socket_owners(std::span<const pid_t> pids,
                                                             std::set<std::uint64_t> inodes,
                                                             std::size_t max_links = 16384) const;
  /// Name of the process that has the socket open, or "".
  [[nodiscard]] std::string socket_owner(std::span<const pid_t> pids, std::uint64_t inode,
                                         std::size_t max_links = 4096) const;

 private:
  [[nodiscard]] Result<std::uint64_t> namespace_of(pid_t pid, std::string_view file,
                                                   std::string_view kind) const;

  std::string path_;
  UniqueFd fd_;
  mutable UniqueFd reserve_;  ///< closed while read() needs its number
};

/// Reads a file of unknown size, up to `limit` bytes. @param dir or AT_FDCWD
[[nodiscard]] Result<std::string> read_text(int dir, const char* path, std::size_t limit);

/// The id of the cgroup at `folder`: the folder's inode, which is INET_DIAG_CGROUP_ID of the
/// sockets that its processes create. 0 when it does not exist. Fact:
/// CgroupFacts.CgroupIdOfASocketIsTheInodeOfTheCgroupFolder
[[nodiscard]] std::uint64_t cgroup_id_of(const std::string& folder);

/// Whether the cgroup with this id is `folder` or one below it, such as a container's own systemd
/// creates. Reads at most 4096 folders and 16 levels; false for a cgroup beyond them.
[[nodiscard]] bool cgroup_holds(const std::string& folder, std::uint64_t id);
}  // namespace portfwd

namespace portfwd::sysctl {

/// net.ipv4.ip_local_port_range: the range from which the kernel chooses a client's port. Read on
/// each call; the kernel's default when it cannot be read. Source: ip(7).
[[nodiscard]] PortRange ephemeral_ports();

/// net.ipv4.ip_unprivileged_port_start. Read on each call; 1024 when it cannot be read.
[[nodiscard]] Port first_unprivileged_port();

/// kernel.random.boot_id, which differs after each boot. Read on each call; "" when it cannot be
/// read. Source: random(4).
[[nodiscard]] std::string boot_id();

}  // namespace portfwd::sysctl
