// The cgroup of a listener's maker, which distinguishes containers that share a network namespace.
#include <gtest/gtest.h>
#include <unistd.h>

#include "build_paths.h"
#include "discover/identity.h"
#include "kernel/sock_diag.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

TEST(CgroupFacts, CgroupIdOfASocketIsTheInodeOfTheCgroupFolder) {
  const testing_support::TestNetns ns;
  const UniqueFd listener = ns.listen({IpAddress::loopback(Family::V4), 0});
  SockDiag diag{ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)};
  const auto found = diag.listeners();
  ASSERT_TRUE(found && found->size() == 1);
  const ProcDir proc;
  const SystemClock clock;
  EventLoop loop(clock);
  Reader reader(loop, {.program = PORTFWD_BROKER_PATH});
  ProcessFactsCache facts(reader, proc);
  const Identifier identifier(proc, facts);
  EXPECT_EQ(found->front().cgroup_id, identifier.identify(::getpid()).cgroup_id);
  EXPECT_NE(found->front().cgroup_id, 0U) << "needs cgroup2 mounted somewhere";
}

}  // namespace
}  // namespace portfwd
