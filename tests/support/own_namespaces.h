// Namespaces of its own for the calling process, as `unshare --map-root-user` makes them, so that a
// test needs no privilege and its ports are free. Each function returns errno, or 0 on success.
#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/unique_fd.h"

namespace portfwd::testing_support {

/// Raises lo, which is down in a new network namespace. The process must be root of it.
inline int raise_lo() {
  const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq lo{};
  std::strcpy(lo.ifr_name, "lo");
  lo.ifr_flags = IFF_UP;
  return ::ioctl(any.get(), SIOCSIFFLAGS, &lo) == 0 ? 0 : errno;
}

inline int write_file(const char* path, const std::string& text) {
  const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
  return ::write(fd.get(), text.data(), text.size()) < 0 ? errno : 0;
}

/// @param flags of unshare(2): CLONE_NEWUSER, which makes the process root inside, CLONE_NEWNET, in
/// which lo is raised, and others that need nothing else
/// @param keep_name keeps the number of the user: a program that it executes has no capabilities
/// then
inline int enter_own_namespaces(int flags, bool keep_name = false) {
  const auto map = [keep_name](const std::string& id) {
    return (keep_name ? id : "0") + " " + id + " 1";
  };
  const std::string uid = map(std::to_string(::geteuid()));
  const std::string gid = map(std::to_string(::getegid()));
  if (::unshare(flags) != 0) return errno;
  int error = 0;
  if ((flags & CLONE_NEWUSER) != 0) {
    error = write_file("/proc/self/setgroups", "deny");
    if (error == 0) error = write_file("/proc/self/uid_map", uid);
    if (error == 0) error = write_file("/proc/self/gid_map", gid);
  }
  if (error == 0 && (flags & CLONE_NEWNET) != 0) error = raise_lo();
  return error;
}

}  // namespace portfwd::testing_support
