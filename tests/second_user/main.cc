// Runs the tests that need to be several users at once: as root, in a network namespace of their
// own and without a user namespace, so that the uids are real. Otherwise the run fails and says so.
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

#include "base/unique_fd.h"

namespace {

bool enter_own_network() {
  if (::unshare(CLONE_NEWNET) != 0) return false;
  if (::geteuid() != 0) return errno = EPERM, false;
  const portfwd::UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq lo{};
  std::strcpy(lo.ifr_name, "lo");
  lo.ifr_flags = IFF_UP;
  return ::ioctl(any.get(), SIOCSIFFLAGS, &lo) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (!GTEST_FLAG_GET(list_tests) && !enter_own_network()) {
    std::fprintf(stderr,
                 "second_user_tests must run as root (sudo %s): they become several users to see "
                 "who is let in (%s)\n",
                 argv[0], std::strerror(errno));
    return 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}
