// Namespaces, their owners and the right to enter them, on which kernel/netns.h relies.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "kernel/netns.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using testing_support::netns_of;
using testing_support::Sandbox;

std::string net_path(pid_t pid) {
  return "/proc/" + std::to_string(pid) + "/ns/net";
}

/// Joins both namespaces at once in a child process, as a broker does. @return errno or 0
int enter(pid_t pid) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto pidfd = open_pidfd(pid);
    ::_exit(pidfd && ::setns(pidfd->get(), CLONE_NEWUSER | CLONE_NEWNET) == 0 ? 0 : errno);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST(Namespaces, TheOwnerOfAUserNamespacePassesItsGate) {
  const Sandbox sandbox;
  const auto netns = Netns::open(net_path(sandbox.pid()));
  ASSERT_TRUE(netns);
  const auto gate = entry_userns_of(netns->fd());
  ASSERT_TRUE(gate) << gate.error().text();
  EXPECT_TRUE(gate->userns.valid()) << "a user namespace below ours";
  EXPECT_EQ(gate->owner, ::geteuid());
  EXPECT_TRUE(gate->open);
  EXPECT_EQ(enter(sandbox.pid()), 0);
}

TEST(Namespaces, AnInnerUserNamespaceIsEnteredThroughTheOuterOne) {
  const Sandbox outer(Sandbox::kUserAndNet, [] {
    auto* inner = new Sandbox;  // ends with its parent, which is killed
    return inner->pid();
  });
  const auto inner = Netns::open(net_path(outer.answer()));
  const auto around = Netns::open(net_path(outer.pid()));
  ASSERT_TRUE(inner && around);
  EXPECT_NE(inner->inode(), around->inode());
  const auto gate = entry_userns_of(inner->fd());
  const auto outer_gate = entry_userns_of(around->fd());
  ASSERT_TRUE(gate && outer_gate);
  EXPECT_EQ(gate->inode, outer_gate->inode) << "one gate, one broker for both";
  EXPECT_TRUE(gate->open);
}

TEST(Namespaces, AnOwnerOutsideOurUserNamespaceIsHiddenByEPERM) {
  Sandbox inside(CLONE_NEWUSER, [] {  // the host's network namespace belongs to its parent
    const auto gate =
        entry_userns_of(UniqueFd(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)).get());
    return gate ? 0 : gate.error().code;
  });
  EXPECT_EQ(inside.answer(), EPERM);
}

TEST(Namespaces, OurOwnNamespaceHasOurUserNamespaceOrOneAboveAsItsOwner) {
  const auto own = Netns::open("/proc/self/ns/net");
  ASSERT_TRUE(own);
  const auto gate = entry_userns_of(own->fd());
  if (gate) {
    EXPECT_FALSE(gate->userns.valid());
    EXPECT_EQ(gate->open, privileged_here());
  } else {
    EXPECT_EQ(gate.error().code, EPERM);
  }
}

TEST(Namespaces, OtherFilesAreRejectedWithEINVAL) {
  EXPECT_EQ(Netns::open("/dev/null").error().code, EINVAL);
  EXPECT_EQ(Netns::open("/proc/self/ns/mnt").error().code, EINVAL);
  EXPECT_EQ(Netns::adopt(UniqueFd(::memfd_create("x", MFD_CLOEXEC))).error().code, EINVAL);
  EXPECT_EQ(Netns::open("/nowhere").error().code, ENOENT);
}

TEST(Namespaces, AHeldNamespaceOutlivesItsProcessesAndKeepsItsInode) {
  Sandbox sandbox;
  const auto held = Netns::open(net_path(sandbox.pid()));
  ASSERT_TRUE(held);
  sandbox.end();
  for (int i = 0; i < 50; ++i) EXPECT_NE(Sandbox().netns(), held->inode());
}

TEST(Namespaces, TheNamespaceOfAZombieCannotBeOpened) {
  Sandbox sandbox;
  const auto pidfd = open_pidfd(sandbox.pid());
  ASSERT_TRUE(pidfd);
  EXPECT_FALSE(has_exited(pidfd->get()));
  sandbox.end(false);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(sandbox.pid()), &info, WEXITED | WNOWAIT), 0);
  EXPECT_TRUE(has_exited(pidfd->get())) << "a pidfd is readable before the process is reaped";
  EXPECT_EQ(netns_of(sandbox.pid()), 0U);
}

TEST(Namespaces, APidfdOfNoProcessIsESRCH) {
  Sandbox sandbox(0);
  const pid_t pid = sandbox.pid();
  sandbox.end();
  EXPECT_EQ(open_pidfd(pid).error().code, ESRCH);
}

}  // namespace
}  // namespace portfwd
