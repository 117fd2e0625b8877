// The program of the stall tests. It runs them in network, pid and mount namespaces with their own
// /proc and /run, as two ordinary users. The tests, the daemon and its containers belong to one of
// them and have no capability; other_user.h runs commands as the other one. It needs root, since a
// user namespace of an ordinary user has one uid only. If that is refused, the run fails with a
// message.
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "stall/other_user.h"
#include "support/own_namespaces.h"

namespace {

using namespace portfwd::testing_support;

constexpr uid_t kUser = 61001;
constexpr uid_t kOtherUser = 61002;

/// Adds names of the users, which the bus looks up.
bool add_users() {
  std::ofstream("/run/passwd") << std::ifstream("/etc/passwd").rdbuf() << "\n"
                               << "portfwd-test:x:" << kUser << ":" << kUser << "::/:/bin/sh\n"
                               << "portfwd-other:x:" << kOtherUser << ":" << kOtherUser
                               << "::/:/bin/sh\n";
  return ::mount("/run/passwd", "/etc/passwd", nullptr, MS_BIND, nullptr) == 0;
}

/// Mounts /proc, /run and /dev/fuse for the first process of the pid namespace. /dev/fuse is open
/// to every user, as by the rules of udev.
bool mount_own() {
  const std::string runtime = "/run/user";
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0 &&
         ::mount("portfwd-test", "/run", "tmpfs", MS_NOSUID, "mode=755") == 0 && add_users() &&
         ::mkdir(runtime.c_str(), 0700) == 0 && ::chown(runtime.c_str(), kUser, kUser) == 0 &&
         ::mknod("/run/fuse", S_IFCHR | 0666, ::makedev(10, 229)) == 0 &&
         ::chmod("/run/fuse", 0666) == 0 &&
         (::access("/dev/fuse", F_OK) != 0 ||
          ::mount("/run/fuse", "/dev/fuse", nullptr, MS_BIND, nullptr) == 0);
}

int refuse(const char* what, int error) {
  std::fprintf(
      stderr,
      "stall_tests must run as root (sudo ./check stall): two users are needed, a container's "
      "owner and a stranger (%s: %s)\n",
      what, std::strerror(error));
  return 1;
}

[[noreturn]] void end_with(pid_t pid) {
  int status = 0;
  for (pid_t ended = 0; ended != pid;) ended = ::wait(&status);  // reaps orphans as well
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/// Gives all processes of the tests, hostile and harmless, precedence over the other work of the
/// machine. Where the scheduler groups by session (sched(7), autogroup), the nice value of the
/// group counts.
void come_first() {
  ::setsid();
  const rlimit any{40, 40};  // getrlimit(2): -20
  ::setrlimit(RLIMIT_NICE, &any);
  ::setpriority(PRIO_PROCESS, 0, kNice);
  std::ofstream("/proc/self/autogroup") << kNice;
}

int run_tests() {
  come_first();
  OtherUser::start(kOtherUser);
  if (const int error = become_user(kUser); error != 0) return refuse("setresuid", error);
  ::setenv("XDG_RUNTIME_DIR", "/run/user", 1);
  std::signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}

/// The first process reaps orphans; the tests run in the second. When the first one exits, all
/// processes end.
int run_as_init() {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (!mount_own()) return refuse("mount", errno);
  const pid_t tests = ::fork();
  if (tests != 0) end_with(tests);
  return run_tests();
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  if (::geteuid() != 0) return refuse("geteuid", EPERM);
  constexpr int kAll = CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS;
  if (const int error = enter_own_namespaces(kAll); error != 0) return refuse("unshare", error);
  const pid_t init = ::fork();
  if (init == 0) return run_as_init();
  end_with(init);
}
