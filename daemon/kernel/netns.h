// Namespaces and processes as descriptors: open a namespace, identify it by its inode, determine
// its owner and whether this process may enter it. Values without state, used by discovery and by
// the broker's starter. It never calls setns and knows nothing of containers.
//
// A network namespace belongs to a user namespace. A process that has CAP_SYS_ADMIN there may
// enter: a process of that user namespace with the capability, and, from outside, one of the user
// who owns the ancestor that is a direct child of that user's own user namespace. Source:
// user_namespaces(7), ioctl_ns(2), security/commoncap.c (cap_capable).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"

namespace portfwd {

/// A descriptor that refers to this process even when its pid is reused. Needs no right over the
/// process. Readable (EPOLLIN) once all its threads have exited, whether or not it was reaped.
/// Source: pidfd_open(2).
/// @return ESRCH when there is no such process, EINVAL/ENOENT when `pid` is a thread's.
[[nodiscard]] Result<UniqueFd> open_pidfd(pid_t pid);

/// Whether the process has exited; true for a zombie. Never blocks.
[[nodiscard]] bool has_exited(int pidfd);

/// A network namespace that is held open: meanwhile no other namespace gets its inode.
class Netns {
 public:
  /// @param path a bind mount such as /run/netns/NAME, or /proc/PID/ns/net
  /// @return open(2)'s errno (EACCES: of another user), or EINVAL when it is no network namespace.
  [[nodiscard]] static Result<Netns> open(const std::string& path);
  /// @return EINVAL when `fd` is no network namespace.
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

/// The number shown as `net:[N]`; unique among the namespaces that exist. @return fstat(2)'s errno.
[[nodiscard]] Result<std::uint64_t> namespace_inode(int fd);
/// CLONE_NEWNET, CLONE_NEWUSER, ... @return ENOTTY when `fd` is no namespace.
[[nodiscard]] Result<int> namespace_type(int fd);

/// The user namespace that owns the namespace `fd`. @return EPERM when it is neither ours nor below
/// ours: then this process may not enter.
[[nodiscard]] Result<UniqueFd> owning_userns(int fd);
/// @return EPERM when the parent is neither ours nor below ours.
[[nodiscard]] Result<UniqueFd> parent_userns(int userns);
/// The uid, in this process's user namespace, of the user who made the user namespace; the overflow
/// uid (65534) when it is not mapped here.
[[nodiscard]] Result<uid_t> owner_of_userns(int userns);

/// The user namespace through which a namespace is entered from here.
struct Gate {
  UniqueFd userns;          ///< direct child of ours that is or contains the owner; invalid: ours
  std::uint64_t inode = 0;  ///< of `userns`, or of our own user namespace
  uid_t owner = 0;          ///< who made it; for our own: our effective uid
  bool open = false;        ///< this process may enter: setns will not fail with EPERM
};
/// @param fd a namespace of any type but user
/// @return EPERM when its owner is neither our user namespace nor below it.
[[nodiscard]] Result<Gate> gate_of(int fd);

/// Whether CAP_SYS_ADMIN is effective in our own user namespace.
[[nodiscard]] bool privileged_here();

/// Whether an address may belong to this machine. False only if no interface of this network
/// namespace has it; true for IPv6 link-local addresses, which cannot be checked without an
/// interface, and for every address where net.ipv4.ip_nonlocal_bind is set. Synchronous; loopback
/// addresses cost nothing.
/// Source: ip(7), bind: EADDRNOTAVAIL.
[[nodiscard]] bool may_be_own_address(const IpAddress& address);

}  // namespace portfwd
