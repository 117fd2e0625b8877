// System call filter of portfwd-relay, tested in child processes that install it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "relay_process/sandbox.h"

namespace portfwd::relay_process {
namespace {

/// Makes one system call in the sandbox, which permits no other code than raw calls.
/// @return the wait status of the child
template <class... Arguments>
int status_in_sandbox(long number, Arguments... arguments) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (!enter_sandbox()) ::_exit(2);
    ::syscall(number, arguments...);
    ::syscall(SYS_exit_group, 0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return status;
}

bool killed(int status) {
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}
bool lived(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(RelaySandbox, AllowsWhatARelayNeeds) {
  EXPECT_TRUE(lived(status_in_sandbox(SYS_recvmsg, -1, nullptr, 0)));
  EXPECT_TRUE(lived(status_in_sandbox(SYS_splice, -1, nullptr, -1, nullptr, 0, 0)));
  EXPECT_TRUE(lived(status_in_sandbox(SYS_setsockopt, -1, SOL_SOCKET, SO_LINGER, nullptr, 0)));
  EXPECT_TRUE(lived(status_in_sandbox(SYS_fcntl, -1, F_SETPIPE_SZ, 65536)));
  EXPECT_TRUE(lived(status_in_sandbox(SYS_ioctl, -1, SIOCOUTQNSD, nullptr)));
  EXPECT_TRUE(lived(status_in_sandbox(SYS_close, -1)));
}

TEST(RelaySandbox, KillsAProcessThatOpensConnectsExecutesOrForks) {
  EXPECT_TRUE(killed(status_in_sandbox(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_openat2, AT_FDCWD, "/etc/passwd", nullptr, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_socket, AF_UNIX, SOCK_STREAM, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, nullptr)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_connect, -1, nullptr, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_bind, -1, nullptr, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_accept4, -1, nullptr, nullptr, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_execve, nullptr, nullptr, nullptr)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_clone, SIGCHLD, nullptr)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_ptrace, 0, 0, 0, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_kill, 0, SIGTERM)));
}

TEST(RelaySandbox, KillsAProcessThatUsesAnAllowedCallForSomethingElse) {
  EXPECT_TRUE(killed(status_in_sandbox(SYS_setsockopt, -1, IPPROTO_IP, 0, nullptr, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_fcntl, -1, F_SETFL, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_ioctl, -1, 0x5412, nullptr)));  // TIOCSTI
  EXPECT_TRUE(killed(status_in_sandbox(SYS_mmap, nullptr, 4096, PROT_READ | PROT_EXEC,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
  EXPECT_TRUE(killed(status_in_sandbox(SYS_mprotect, nullptr, 0, PROT_EXEC)));
}

}  // namespace
}  // namespace portfwd::relay_process
