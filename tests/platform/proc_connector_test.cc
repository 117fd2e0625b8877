// The kernel's exec events and the processes that receive them, on which kernel/proc_connector.h
// relies.
#include "kernel/proc_connector.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>

#include "support/sandbox.h"

namespace portfwd {
namespace {

using testing_support::Sandbox;

bool since_6_6() {
  utsname name{};
  unsigned major = 0, minor = 0;
  ::uname(&name);
  std::sscanf(name.release, "%u.%u", &major, &minor);
  return major > 6 || (major == 6 && minor >= 6);
}

/// The first inode numbers of namespaces are fixed: include/linux/proc_ns.h.
bool in_initial_namespaces() {
  struct stat user {
  }, pid{};
  ::stat("/proc/self/ns/user", &user);
  ::stat("/proc/self/ns/pid", &pid);
  return user.st_ino == 0xEFFFFFFDU && pid.st_ino == 0xEFFFFFFCU;
}

/// @return whether an exec of `pid` is reported before the limit
bool reported(ProcConnector& connector, pid_t pid, int limit_ms) {
  pollfd waiting{connector.fd(), POLLIN, 0};
  while (::poll(&waiting, 1, limit_ms) > 0) {
    const auto batch = connector.drain(64);
    if (std::ranges::binary_search(batch.execs, pid)) return true;
  }
  return false;
}

TEST(ProcConnectorFacts, IsPermittedToAllUsersSince6_6AndToRootBefore) {
  const auto connector = ProcConnector::open();
  if (since_6_6()) {
    EXPECT_TRUE(connector) << connector.error().text();
  } else if (::geteuid() != 0) {
    EXPECT_EQ(connector.error().code, EPERM);
  }
}

TEST(ProcConnectorFacts, TheInitialNamespacesReceiveEveryExecWithTheHostsPid) {
  auto connector = ProcConnector::open();
  Sandbox sandbox;
  sandbox.tell(Sandbox::Do::Exec);
  if (connector && since_6_6() && in_initial_namespaces()) {
    EXPECT_TRUE(reported(*connector, sandbox.pid(), 20'000));
  }  // in other namespaces, events arrive only if another process has subscribed
}

}  // namespace
}  // namespace portfwd
