// The texts of /proc as values. Pure: bytes in, values out; a text that is not as proc(5) says
// gives nothing. A process chooses its name, arguments and host name itself, so nothing here trusts
// them.
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

/// /proc/PID/stat, as far as it is of use here.
struct Stat {
  pid_t pid = 0;
  std::string comm;  ///< at most 15 bytes, any but NUL: parentheses and blanks too
  char state = '?';  ///< 'Z' for a zombie
  pid_t ppid = 0;
  std::uint64_t started =
      0;  ///< clock ticks since boot; with the pid it tells one process for good
};
[[nodiscard]] std::optional<Stat> parse_stat(std::string_view text);

/// Effective uid in /proc/PID/status: "Uid: real effective saved filesystem".
[[nodiscard]] std::optional<uid_t> parse_status_uid(std::string_view text);

/// How many ids /proc/PID/uid_map maps: lines of "inside outside count"; user_namespaces(7). 0 when
/// nothing is mapped or a line is not as it should be.
[[nodiscard]] std::uint64_t mapped_ids(std::string_view text);

/// Whether /proc/PID/uid_map maps this id of the reader's user namespace.
[[nodiscard]] bool maps_id(std::string_view text, std::uint32_t id);

/// /proc/loadavg's last field: the pid given last in our pid namespace. When it has not moved, no
/// process was started.
[[nodiscard]] std::optional<pid_t> parse_last_pid(std::string_view text);

/// The paths of /proc/PID/cgroup, that of the unified hierarchy ("0::") first; cgroups(7).
[[nodiscard]] std::vector<std::string> parse_cgroup(std::string_view text);
/// That of the unified hierarchy alone; nothing when the process is in a part of it that cannot be
/// seen from here ("/../..": outside of our cgroup namespace).
[[nodiscard]] std::optional<std::string> parse_unified_cgroup(std::string_view text);

/// /proc/PID/cmdline and environ: strings that end in NUL; the last one may have been cut.
[[nodiscard]] std::vector<std::string> split_strings(std::string_view text);

/// "net:[4026531840]", as readlink gives it for /proc/PID/ns/net and mountinfo for nsfs.
[[nodiscard]] std::optional<std::uint64_t> parse_netns_link(std::string_view text);
/// The same of another kind, such as "user".
[[nodiscard]] std::optional<std::uint64_t> parse_namespace_link(std::string_view text,
                                                                std::string_view kind);

/// "socket:[12345]", as readlink gives it for /proc/PID/fd/N.
[[nodiscard]] std::optional<std::uint64_t> parse_socket_link(std::string_view text);

/// One line of /proc/PID/mountinfo; the octal escapes of the paths are undone.
struct Mount {
  std::string root;   ///< what of the file system is mounted
  std::string point;  ///< where
  std::string type;
};
[[nodiscard]] std::optional<Mount> parse_mount(std::string_view line);
/// All lines that are well-formed; the others are passed over.
[[nodiscard]] std::vector<Mount> parse_mountinfo(std::string_view text);
}  // namespace portfwd::procfs

namespace portfwd {

// Reads a /proc folder: which processes there are, in which network namespace each is, and their
// texts. Holds the folder open; one object serves all of discovery. It decides nothing. One more
// descriptor is held in reserve: what a process is must not depend on how many the daemon has left.
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

// A cgroup of the unified hierarchy as the folder that it is. Pure functions on a path; they know
// no containers.
/// The number that the kernel has for a cgroup: its folder's inode, and INET_DIAG_CGROUP_ID of the
/// sockets that its processes make. 0 when it is not there.
/// Fact: CgroupFacts.TheIdOfASocketsCgroupIsTheInodeOfItsMakersFolder
[[nodiscard]] std::uint64_t cgroup_id_of(const std::string& folder);

/// Whether the cgroup of this number is `folder` or one below it, as a container's own systemd
/// makes them. Looks at no more than 4096 folders and 16 levels; what is not found there is not
/// there.
[[nodiscard]] bool cgroup_holds(const std::string& folder, std::uint64_t id);
}  // namespace portfwd

namespace portfwd::sysctl {

// Kernel settings, read anew on each call. Source of those about ports: ip(7).
/// net.ipv4.ip_local_port_range: where the kernel takes a client's own port from. The kernel's
/// default when it cannot be read.
[[nodiscard]] PortRange ephemeral_ports();

/// net.ipv4.ip_unprivileged_port_start; 1024 when it cannot be read.
[[nodiscard]] Port first_unprivileged_port();

/// kernel.random.boot_id: another one after each boot; "" when it cannot be read. Source: random(4)
[[nodiscard]] std::string boot_id();

}  // namespace portfwd::sysctl
