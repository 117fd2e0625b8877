// See netns.h. Each relation between namespaces is one ioctl on an nsfs descriptor.

#include "kernel/netns.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/unique_fd.h"

namespace portfwd {

// ---- processes

Result<UniqueFd> open_pidfd(pid_t pid) {
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return fail("pidfd_open");
  return UniqueFd(static_cast<int>(fd));
}

bool has_exited(int pidfd) {
  pollfd waiting{pidfd, POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

namespace {

constexpr int kMaxNamespaceDepth = 33;  // the kernel nests user namespaces 32 deep; user_namespaces(7)

Result<UniqueFd> related(int fd, unsigned long request, std::string_view op) {
  const int got = ::ioctl(fd, request);
  if (got < 0) return fail(op);
  return UniqueFd(got);  // the kernel opens it CLOEXEC: fs/nsfs.c, open_related_ns
}

Result<std::uint64_t> inode_of_path(const char* path) {
  struct stat st {};
  if (::stat(path, &st) != 0) return fail("stat");
  return st.st_ino;
}

/// Walks up from `userns` to the one whose parent is `ours`.
Result<UniqueFd> direct_child(UniqueFd userns, std::uint64_t ours) {
  for (int level = 0; level < kMaxNamespaceDepth; ++level) {
    auto parent = parent_userns(userns.get());
    if (!parent) return std::unexpected(parent.error());
    const auto inode = namespace_inode(parent->get());
    if (!inode) return std::unexpected(inode.error());
    if (*inode == ours) return userns;
    userns = std::move(*parent);
  }
  return fail("NS_GET_PARENT", ELOOP);
}

}  // namespace

Result<Netns> Netns::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd.valid()) return fail("open");
  return adopt(std::move(fd));
}

Result<Netns> Netns::adopt(UniqueFd fd) {
  const auto type = namespace_type(fd.get());
  if (!type || *type != CLONE_NEWNET) return fail("NS_GET_NSTYPE", EINVAL);
  const auto inode = namespace_inode(fd.get());
  if (!inode) return std::unexpected(inode.error());
  return Netns(std::move(fd), *inode);
}

Result<std::uint64_t> namespace_inode(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return fail("fstat");
  return st.st_ino;
}

Result<int> namespace_type(int fd) {
  const int type = ::ioctl(fd, NS_GET_NSTYPE);
  if (type < 0) return fail("NS_GET_NSTYPE");
  return type;
}

Result<UniqueFd> owning_userns(int fd) {
  return related(fd, NS_GET_USERNS, "NS_GET_USERNS");
}

Result<UniqueFd> parent_userns(int userns) {
  return related(userns, NS_GET_PARENT, "NS_GET_PARENT");
}

Result<uid_t> owner_of_userns(int userns) {
  uid_t uid = 0;
  if (::ioctl(userns, NS_GET_OWNER_UID, &uid) != 0) return fail("NS_GET_OWNER_UID");
  return uid;
}

Result<EntryUserns> entry_userns_of(int fd) {
  const auto ours = inode_of_path("/proc/self/ns/user");
  if (!ours) return std::unexpected(ours.error());
  auto owner = owning_userns(fd);
  if (!owner) return std::unexpected(owner.error());
  const auto inode = namespace_inode(owner->get());
  if (!inode) return std::unexpected(inode.error());
  if (*inode == *ours) return EntryUserns{{}, *ours, ::geteuid(), privileged_here()};

  auto child = direct_child(std::move(*owner), *ours);
  if (!child) return std::unexpected(child.error());
  const auto child_inode = namespace_inode(child->get());
  const auto uid = owner_of_userns(child->get());
  if (!child_inode || !uid) return fail("NS_GET_OWNER_UID", EIO);
  return EntryUserns{std::move(*child), *child_inode, *uid,
                     *uid == ::geteuid() || privileged_here()};
}

bool privileged_here() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return false;
  return (data[0].effective & (1U << CAP_SYS_ADMIN)) != 0;
}

bool may_be_own_address(const IpAddress& address) {
  if (address.is_loopback()) return true;
  const UniqueFd probe(
      ::socket(address_family(address.family()), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const SockAddr there = to_sockaddr({address, 0});
  if (!probe.valid() || ::bind(probe.get(), there.get(), there.length) == 0) return true;
  return errno != EADDRNOTAVAIL;
}

}  // namespace portfwd
