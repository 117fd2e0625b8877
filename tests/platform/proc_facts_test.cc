// Properties of /proc on which discovery relies, other than its texts: kernel/procfs.h,
// discover/hints.h.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/mount.h>

#include <algorithm>

#include "kernel/procfs.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using testing_support::Sandbox;

std::uint64_t folder_of(const ProcDir& proc, pid_t pid) {
  std::vector<ProcDir::Entry> all;
  if (!proc.list(all)) return 0;
  const auto found = std::ranges::find(all, pid, &ProcDir::Entry::pid);
  return found == all.end() ? 0 : found->inode;
}

/// Makes a child with this pid that lives until it is killed. Source: clone3(2), set_tid
pid_t fork_as(pid_t wanted) {
  clone_args args{};
  args.exit_signal = SIGCHLD;
  args.set_tid = reinterpret_cast<std::uintptr_t>(&wanted);
  args.set_tid_size = 1;
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0) {
    for (;;) ::pause();
  }
  return static_cast<pid_t>(pid);
}

void kill_and_reap(pid_t pid) {
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

/// Must run as pid 1 of a pid namespace. @return 0, or the number of the step that failed
int reuse_a_pid() {
  if (::mount("proc", "/proc", "proc", 0, nullptr) != 0) return 1;
  const ProcDir proc;
  const pid_t first = fork_as(77);
  if (first != 77) return 2;
  const std::uint64_t before = folder_of(proc, first);
  const bool same = folder_of(proc, first) == before;
  kill_and_reap(first);
  if (before == 0 || !same) return 3;
  if (folder_of(proc, first) != 0) return 4;
  const pid_t second = fork_as(77);
  const std::uint64_t after = folder_of(proc, second);
  kill_and_reap(second);
  return second == 77 && after != 0 && after != before ? 0 : 5;
}

TEST(ProcFacts, TheFolderOfAReusedPidHasADifferentInode) {
  const Sandbox sandbox(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS, [] {
    const pid_t init = ::fork();
    if (init == 0) ::_exit(reuse_a_pid());
    int status = 0;
    ::waitpid(init, &status, 0);
    return WEXITSTATUS(status);
  });
  EXPECT_EQ(sandbox.answer(), 0) << "1: mount /proc, 2: clone3, 3-5: the inode";
}

TEST(ProcFacts, LoadavgShowsTheLastPid) {
  const auto last = [] {
    const ProcDir proc;
    return procfs::parse_last_pid(read_text(AT_FDCWD, "/proc/loadavg", 128).value_or(""));
  };
  const auto before = last();
  ASSERT_TRUE(before);
  const Sandbox sandbox(0);
  EXPECT_NE(last(), before);
}

TEST(ProcFacts, AMountIsAnEpollPriEventOnAnOpenMountinfo) {
  const Sandbox sandbox(CLONE_NEWUSER | CLONE_NEWNS, [] {
    const UniqueFd mountinfo(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    pollfd waiting{mountinfo.get(), POLLPRI, 0};
    if (::poll(&waiting, 1, 0) != 0) return 1;
    if (::mount("tmpfs", "/tmp", "tmpfs", 0, nullptr) != 0) return 2;
    if (::poll(&waiting, 1, 20'000) != 1 || (waiting.revents & POLLPRI) == 0) return 3;
    return ::poll(&waiting, 1, 0) == 0 ? 0 : 4;  // reported once, without reading the file
  });
  EXPECT_EQ(sandbox.answer(), 0);
}

TEST(ProcFacts, AnotherUsersProcessHidesItsNamespacesButNotItsCgroup) {
  const Sandbox asker(CLONE_NEWUSER, [] {  // pid 1 is another user's there, even for root
    const ProcDir proc;
    const auto netns = proc.netns(1);
    return !netns && netns.error().code == EACCES && proc.read(1, "cgroup") ? 0 : 1;
  });
  EXPECT_EQ(asker.answer(), 0);
}

TEST(ProcFacts, TheIdMapDiffersBetweenUserNamespaces) {
  const Sandbox beside(0), below;
  const ProcDir proc;
  const auto own = proc.read(::getpid(), "uid_map");
  ASSERT_TRUE(own);
  EXPECT_EQ(proc.read(beside.pid(), "uid_map").value_or(""), *own);
  EXPECT_NE(proc.read(below.pid(), "uid_map").value_or(*own), *own);
  EXPECT_TRUE(proc.read(1, "uid_map")) << "every user may read it";
}

TEST(ProcFacts, TheOwnerOfASocketIsFoundByItsInode) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct stat st {};
  ASSERT_EQ(::fstat(socket.get(), &st), 0);
  const ProcDir proc;
  const pid_t self = ::getpid();
  EXPECT_EQ(proc.socket_owner({&self, 1}, st.st_ino), proc.comm(self));
  EXPECT_EQ(proc.socket_owner({&self, 1}, 1), "");
  EXPECT_EQ(proc.socket_owner({&self, 1}, st.st_ino, 1), "") << "the limit holds";
}

}  // namespace
}  // namespace portfwd
