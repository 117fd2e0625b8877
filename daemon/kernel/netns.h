// Namespaces and processes as descriptors: opens a namespace, identifies it by its inode,
// determines its owner and whether this process may enter it. Values without state. It never calls
// setns(2), and containers are not known here.
//
// A network namespace belongs to a user namespace. To enter, a process needs CAP_SYS_ADMIN there.
// It has that capability in its own user namespace and in all below it if the capability is
// effective. Without it, it has it in a direct child of its own user namespace that its user owns,
// and in all below that child. Source: user_namespaces(7), ioctl_ns(2), security/commoncap.c
// (cap_capable).
// user_namespaces(7), ioctl_ns(2), security/commoncap.c (cap_capable).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"

namespace portfwd {

/// Opens a descriptor that refers to this process even after its pid is reused. Needs no permission
/// over the process. The descriptor is readable (EPOLLIN) once all threads have exited, whether or
/// not the process was reaped. Source: pidfd_open(2).
/// @return ESRCH when there is no such process, EINVAL or ENOENT when `pid` is a thread's
[[nodiscard]] Result<UniqueFd> open_pidfd(pid_t pid);

/// Whether the process has exited; true for a zombie. Never blocks.
[[nodiscard]] bool has_exited(int pidfd);

/// A network namespace that is held open, so that no other namespace gets its inode.
class Netns {
 public:
  /// @param path a bind mount such as /run/netns/NAME, or /proc/PID/ns/net
  /// @return open(2)'s errno (EACCES: another user's), or EINVAL when it is not a network namespace
  [[nodiscard]] static Result<Netns> open(const std::string& path);
  /// @return EINVAL when `fd` is not a network namespace
  [[nodiscard]] static Result<Netns> adopt(UniqueFd fd);

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] std::uint64_t inode() const noexcept { return inode_; }
  /// Gives up the descriptor; the value is empty afterwards.
  [[nodiscard]] UniqueFd release() noexcept { return std::move(fd_); }

 private:
  Netns(UniqueFd fd, std::uint64_t inode) noexcept : fd_(std::move(fd)), inode_(inode) {}
  UniqueFd fd_;
  std::uint64_t inode_;
};

/// The number shown as `net:[N]`; unique among the namespaces that exist. @return fstat(2)'s errno
[[nodiscard]] Result<std::uint64_t> namespace_inode(int fd);
/// CLONE_NEWNET, CLONE_NEWUSER, ... @return ENOTTY when `fd` is not a namespace
[[nodiscard]] Result<int> namespace_type(int fd);

/// Opens the user namespace that owns the namespace `fd`. @return EPERM when it is neither ours nor
/// below ours: then this process cannot enter
[[nodiscard]] Result<UniqueFd> owning_userns(int fd);
/// Opens the parent. @return EPERM when it is neither ours nor below ours
[[nodiscard]] Result<UniqueFd> parent_userns(int userns);
/// The uid, in this process's user namespace, of the owner of the user namespace; the overflow uid
/// (65534) when it is not mapped here.
[[nodiscard]] Result<uid_t> owner_of_userns(int userns);

/// The user namespace through which this process enters a namespace.
struct EntryUserns {
  /// The child of this process's user namespace that is or contains the owner; invalid: its own.
  UniqueFd userns;
  std::uint64_t inode = 0;  ///< of `userns`, or of our own user namespace
  uid_t owner = 0;          ///< its owner; for our own: our effective uid
  bool open = false;        ///< this process may enter: setns(2) does not fail with EPERM
};
/// @param fd a namespace of any type but user
/// @return EPERM when its owner is neither our user namespace nor below it
[[nodiscard]] Result<EntryUserns> entry_userns_of(int fd);

/// Whether CAP_SYS_ADMIN is effective in our own user namespace.
[[nodiscard]] bool privileged_here();

/// Whether an address may belong to this machine. False only if no interface of this network
/// namespace has it. True for IPv6 link-local addresses, which cannot be checked without an
/// interface, and for every address where net.ipv4.ip_nonlocal_bind is set. Synchronous; loopback
/// addresses cost nothing.
/// Source: ip(7), bind: EADDRNOTAVAIL.
[[nodiscard]] bool may_be_own_address(const IpAddress& address);

}  // namespace portfwd
