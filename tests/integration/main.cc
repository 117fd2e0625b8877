// Runs the integration tests in a user and network namespace of their own, with lo up, so that they
// need no privilege and meet nobody's ports. Where that is refused the run fails and says so.
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "base/unique_fd.h"

namespace {

bool write_file(const char* path, const std::string& text) {
  std::ofstream out(path);
  return static_cast<bool>(out << text << std::flush);
}

bool raise_lo() {
  const portfwd::UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq lo{};
  std::strcpy(lo.ifr_name, "lo");
  lo.ifr_flags = IFF_UP;
  return ::ioctl(any.get(), SIOCSIFFLAGS, &lo) == 0;
}

/// As `unshare --map-root-user --net` does.
bool enter_own_namespaces() {
  const auto uid = std::to_string(::geteuid());
  const auto gid = std::to_string(::getegid());
  if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return false;
  return write_file("/proc/self/setgroups", "deny") &&
         write_file("/proc/self/uid_map", "0 " + uid + " 1") &&
         write_file("/proc/self/gid_map", "0 " + gid + " 1") && raise_lo();
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests) && !enter_own_namespaces()) {
    std::fprintf(stderr,
                 "integration tests need unprivileged user namespaces (%s): allow them with "
                 "sysctl user.max_user_namespaces=10000\n",
                 std::strerror(errno));
    return 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}
