// System call filters of broker and reader, tested in child processes that install them.
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "broker/sandbox.h"

namespace portfwd::broker {
namespace {

/// Runs `body` in a child process. @return its wait status
template <class Body>
int status_of_child(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    body();
    ::syscall(SYS_exit_group, 0);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return status;
}

/// Makes one system call under the filter of a broker, which permits no other code than raw calls.
/// @return the wait status of the child
template <class... Arguments>
int status_at(Home home, long number, Arguments... arguments) {
  return status_of_child([&] {
    if (!filter_system_calls(home).ok()) ::_exit(2);
    ::syscall(number, arguments...);
  });
}
template <class... Arguments>
int status_behind_filter(long number, Arguments... arguments) {
  return status_at(Home::Private, number, arguments...);
}
constexpr Home kAllHomes[]{Home::Private, Home::Here, Home::Names, Home::Paths, Home::HostPaths};

bool killed(int status) {
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
}
bool lived(int status) {
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(BrokerSandbox, WhatItsWorkNeedsIsAllowed) {
  EXPECT_TRUE(lived(status_behind_filter(SYS_close, -1)));
  EXPECT_TRUE(lived(status_behind_filter(SYS_socket, AF_INET6, SOCK_STREAM, 0)));
  EXPECT_TRUE(lived(status_behind_filter(SYS_setns, -1, CLONE_NEWNET)));
}

TEST(BrokerSandbox, AnyOtherCallEndsTheProcess) {
  for (const Home home : kAllHomes) {
    EXPECT_TRUE(killed(status_at(home, SYS_getpid)));
    EXPECT_TRUE(killed(status_at(home, SYS_execve, nullptr, nullptr, nullptr)));
    EXPECT_TRUE(killed(status_at(home, SYS_ptrace, 0, 0, 0, 0)));
    EXPECT_TRUE(killed(status_at(home, SYS_unshare, CLONE_NEWNET)));
    EXPECT_TRUE(killed(status_at(home, SYS_openat, -1, "/etc/passwd", 0)));
    EXPECT_TRUE(killed(status_at(home, SYS_read, -1, nullptr, 0)));
    EXPECT_TRUE(killed(status_at(home, SYS_write, -1, nullptr, 0)));
    EXPECT_TRUE(killed(status_at(home, SYS_linkat, -1, "a", -1, "b", 0)));
    EXPECT_TRUE(killed(status_at(home, SYS_setgroups, 0, nullptr)));
  }
}

TEST(BrokerSandbox, OnlyABrokerForPathsUsesPaths) {
  for (const Home home : kAllHomes) {
    const bool paths = home == Home::Paths || home == Home::HostPaths;
    const bool ids = paths || home == Home::Names;
    SCOPED_TRACE(static_cast<int>(home));
    EXPECT_EQ(lived(status_at(home, SYS_openat2, -1, "x", nullptr, 0)), paths);
    EXPECT_EQ(lived(status_at(home, SYS_mkdirat, -1, "x", 0)), paths);
    EXPECT_EQ(lived(status_at(home, SYS_renameat2, -1, "x", -1, "y", 0)), paths);
    EXPECT_EQ(lived(status_at(home, SYS_unlinkat, -1, "x", 0)), paths);
    EXPECT_EQ(lived(status_at(home, SYS_fchownat, -1, "x", 0, 0, 0)), paths);
    EXPECT_EQ(lived(status_at(home, SYS_connect, -1, nullptr, 0)), home != Home::Private);
    EXPECT_EQ(lived(status_at(home, SYS_setresuid, -1, -1, -1)), ids);
    EXPECT_EQ(lived(status_at(home, SYS_socket, AF_UNIX, SOCK_STREAM, 0)), home != Home::Private);
    EXPECT_EQ(lived(status_at(home, SYS_socket, AF_INET, SOCK_STREAM, 0)), !ids);
  }
}

TEST(BrokerSandbox, OnlyABrokerWithANamespaceOfItsOwnEntersOthers) {
  for (const Home home : kAllHomes) {
    const bool enters = home == Home::Private || home == Home::Names;
    EXPECT_EQ(lived(status_at(home, SYS_setns, -1, CLONE_NEWNET)), enters);
    EXPECT_TRUE(killed(status_at(home, SYS_setns, -1, CLONE_NEWUSER)));
  }
}

TEST(BrokerSandbox, OnlyNetworkNamespacesCanBeEntered) {
  EXPECT_TRUE(killed(status_behind_filter(SYS_setns, -1, CLONE_NEWUSER)));
  EXPECT_TRUE(killed(status_behind_filter(SYS_setns, -1, CLONE_NEWNS)));
  EXPECT_TRUE(killed(status_behind_filter(SYS_setns, -1, 0)));
}

TEST(BrokerSandbox, OnlyItsOwnFamiliesOfSocketsCanBeMade) {
  EXPECT_TRUE(killed(status_behind_filter(SYS_socket, AF_PACKET, SOCK_RAW, 0)));
  EXPECT_TRUE(killed(status_behind_filter(SYS_socket, AF_UNSPEC, SOCK_STREAM, 0)));
}

/// The same under the filter of a reader.
template <class... Arguments>
int status_of_reader(long number, Arguments... arguments) {
  return status_of_child([&] {
    if (!filter_reading_calls().ok()) ::_exit(2);
    ::syscall(number, arguments...);
  });
}

TEST(ReaderSandbox, AllowsToOpenForReadingOnly) {
  EXPECT_TRUE(lived(status_of_reader(SYS_openat, AT_FDCWD, "/etc/passwd", kReadFlags)));
  EXPECT_TRUE(lived(status_of_reader(SYS_openat, AT_FDCWD, "/", kFolderFlags)));
  EXPECT_TRUE(killed(status_of_reader(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDWR)));
  EXPECT_TRUE(killed(status_of_reader(SYS_openat, AT_FDCWD, "/tmp/x", kReadFlags | O_CREAT)));
}

TEST(ReaderSandbox, KillsAReaderThatDoesAnythingElse) {
  EXPECT_TRUE(killed(status_of_reader(SYS_socket, AF_INET, SOCK_STREAM, 0)));
  EXPECT_TRUE(killed(status_of_reader(SYS_setns, -1, CLONE_NEWNET)));
  EXPECT_TRUE(killed(status_of_reader(SYS_write, -1, "", 0)));
  EXPECT_TRUE(killed(status_of_reader(SYS_unlinkat, -1, "x", 0)));
  EXPECT_TRUE(killed(status_of_reader(SYS_ptrace, 0, 0, 0, 0)));
  EXPECT_TRUE(killed(status_of_reader(SYS_execve, nullptr, nullptr, nullptr)));
}

#if defined(__x86_64__)
TEST(BrokerSandbox, TheSecondSetOfCallNumbersIsNoWayAround) {
  constexpr long kX32 = 0x40000000;
  EXPECT_TRUE(killed(status_behind_filter(kX32 + SYS_close, -1)));
}
#endif

TEST(BrokerSandbox, OnlyTheNamedCapabilitiesAreKept) {
  constexpr Capabilities kKeep = Capabilities{1} << CAP_SYS_ADMIN;
  const int status = status_of_child([] {
    if (::unshare(CLONE_NEWUSER) != 0 || !drop_capabilities(kKeep).ok()) ::_exit(2);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct sets[2]{};
    ::syscall(SYS_capget, &header, sets);
    const bool exact = sets[0].permitted == kKeep && sets[0].effective == kKeep &&
                       sets[1].permitted == 0 && sets[0].inheritable == 0;
    ::_exit(exact ? 0 : 3);
  });
  EXPECT_TRUE(lived(status)) << WEXITSTATUS(status);
}

}  // namespace
}  // namespace portfwd::broker
