// Main program of the system tests. They run in their own user, network, pid and mount namespaces,
// with lo up and with their own /proc and /run. They need no privilege, see no ports and processes
// of the machine, and leave nothing behind. If the kernel refuses the namespaces, the run fails and
// says so.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

#include "support/own_namespaces.h"

namespace {

using portfwd::testing_support::enter_own_namespaces;

/// Must be called in the first process of the pid namespace, so that /proc shows that namespace.
bool mount_own() {
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0 &&
         ::mount("portfwd-test", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") == 0;
}

int refused(const char* what, int error) {
  std::fprintf(stderr,
               "system tests need unprivileged user namespaces (%s: %s): allow them with "
               "sysctl user.max_user_namespaces=10000\n",
               what, std::strerror(error));
  return 1;
}

/// Exits with the status of `pid`, without cleanup: LeakSanitizer cannot start its thread in a
/// process that has its children in a pid namespace that has ended.
[[noreturn]] void end_with(pid_t pid) {
  int status = 0;
  for (pid_t ended = 0; ended != pid;) ended = ::wait(&status);  // reaps orphans as well
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/// The first process reaps; the tests run in the second. All processes end with the first one.
int run_as_init() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!mount_own()) return refused("mount", errno);
  const pid_t tests = ::fork();
  if (tests != 0) end_with(tests);
  std::signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  constexpr int kAll = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS;
  if (const int error = enter_own_namespaces(kAll); error != 0) return refused("unshare", error);
  const pid_t init = ::fork();
  if (init == 0) return run_as_init();
  end_with(init);
}
