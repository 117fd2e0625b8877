// Distribution of listeners over containers, and what containers of one network namespace share.
#include "access/access_set.h"

#include <gmock/gmock.h>

#include "kernel/procfs.h"
#include "support/access_fixture.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string cgroup2_root() {
  const std::string text = read_text(AT_FDCWD, "/proc/self/mountinfo", 1 << 20).value_or("");
  for (const procfs::Mount& mount : procfs::parse_mountinfo(text)) {
    if (mount.type == "cgroup2") return mount.point;
  }
  return {};
}

constexpr IpAddress kLoopback = IpAddress::loopback(Family::V4);

struct AccessSetTest : AccessTest {
  /// Containers in a namespace of their own, with one listener made by the cgroup of this test.
  TestNetns ns;
  UniqueFd server = ns.listen({kLoopback, 8080});
};

TEST_F(AccessSetTest, AListenerBelongsToTheNamespacesOnlyContainer) {
  ContainerAccess& web = add(container("web", ns.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_EQ(web.state(), ContainerState::Watched);
  EXPECT_EQ(web.kind(), AccessKind::Broker);
  EXPECT_THAT(told, ElementsAre("web: 8080"));
}

struct AccessWithoutModules : AccessTest {
  AccessWithoutModules() : AccessTest(false) {}
  TestNetns ns;
  UniqueFd server = ns.listen({kLoopback, 8080});
};

TEST_F(AccessWithoutModules, UsesSockDiagOnceTheModuleIsLoaded) {
  modules.set_observer([this] { reaches.on_diag_modules_changed(); });
  ContainerAccess& web = add(container("web", ns.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_EQ(web.listeners().front().cookie, 0U) << "not read from /proc";
  has_diag = true;
  modules_clock.advance(DiagModules::kPause);
  ASSERT_TRUE(modules_loop.turn(Duration::zero()));
  ASSERT_TRUE(turn_until([&] { return web.listeners().front().cookie != 0; }));
  EXPECT_THAT(told, ElementsAre("web: 8080", "web: 8080")) << "it went away meanwhile";
}

TEST_F(AccessSetTest, AssignsListenersOfAPodByCgroup) {
  ContainerAccess& infra = add(container("infra", ns.pid()));
  ASSERT_TRUE(listens_on(infra, 1));
  Container& second = container("db", ns.pid());
  second.cgroup_id = infra.listeners().front().cgroup_id;
  ASSERT_NE(second.cgroup_id, 0U);
  ContainerAccess& db = add(second);
  EXPECT_THAT(infra.listeners(), IsEmpty());
  EXPECT_EQ(db.listeners().size(), 1U);
  EXPECT_THAT(told, ElementsAre("infra: 8080", "infra:", "db: 8080"));
}

TEST_F(AccessSetTest, AssignsUnclaimedListenersToTheFirstContainerThenToTheNext) {
  Container& first = container("first", ns.pid());
  ContainerAccess& next = (add(first), add(container("next", ns.pid())));
  ASSERT_TRUE(listens_on(*reaches.find("first"), 1));
  remove(first);
  EXPECT_EQ(next.listeners().size(), 1U);
  EXPECT_THAT(told, ElementsAre("first: 8080", "next: 8080"));
}

TEST_F(AccessSetTest, ReassignsListenersWhenACgroupBecomesKnown) {
  ContainerAccess& first = add(container("first", ns.pid()));
  Container& late = container("late", ns.pid());
  ContainerAccess& second = add(late);
  ASSERT_TRUE(listens_on(first, 1));
  late.cgroup_id = first.listeners().front().cgroup_id;
  reaches.on_container_changed(late);
  EXPECT_EQ(second.listeners().size(), 1U);
}

TEST_F(AccessSetTest, AssignsListenersOfNestedCgroupsToTheContainer) {
  Container& first = container("first", ns.pid());
  first.engine_id = "f";
  first.cgroup_id = ~0UL;
  ContainerAccess& infra = add(first);
  Container& second = container("systemd", ns.pid());
  second.engine_id = "s";
  second.cgroup_id = ~1UL;
  second.cgroup = cgroup2_root();  // contains the cgroup of this test
  ContainerAccess& systemd = add(second);
  ASSERT_TRUE(listens_on(systemd, 1));
  EXPECT_THAT(infra.listeners(), IsEmpty());
  EXPECT_THAT(told, ElementsAre("systemd: 8080"));
}

TEST_F(AccessSetTest, AssignsListenersOfNestedContainersToTheInnerOne) {
  Container& outer = container("outer", ns.pid());
  outer.cgroup = cgroup2_root();
  add(outer);
  Container& inner = container("inner", ns.pid());
  inner.cgroup = cgroup2_root() + "/.";
  ContainerAccess& reach = add(inner);
  EXPECT_TRUE(listens_on(reach, 1));
}

TEST_F(AccessSetTest, AssignsToTheInnerContainerInAnyOrderOfDiscovery) {
  Container& inner = container("inner", ns.pid());
  inner.cgroup = cgroup2_root() + "/.";
  ContainerAccess& reach = add(inner);
  Container& outer = container("outer", ns.pid());
  outer.cgroup = cgroup2_root();
  ContainerAccess& other = add(outer);
  EXPECT_TRUE(listens_on(reach, 1));
  EXPECT_THAT(other.listeners(), IsEmpty());
}

TEST_F(AccessSetTest, IgnoresContainersOnTheHostNetworkWithAReason) {
  Container& host = container("host", ::getpid());
  host.on_host = true;
  host.inaccessible = "its network is the host's";
  const ContainerAccess& reach = add(host);
  EXPECT_EQ(reach.state(), ContainerState::Ignored);
  EXPECT_EQ(reach.kind(), AccessKind::None);
  EXPECT_EQ(reach.reason(), "its network is the host's");
}

TEST_F(AccessSetTest, WithholdsListenersOfAnUnknownCgroupDuringTheGracePeriod) {
  Container& first = container("first", ns.pid());
  first.engine_id = "f";
  first.cgroup_id = ~0UL;
  ContainerAccess& known = add(first);
  Container& late = container("late", ns.pid());
  std::uint64_t cgroup = 0;
  {
    const TestNetns other;
    ContainerAccess& probe = add(container("probe", other.pid()));
    const UniqueFd socket = other.listen({kLoopback, 8080});
    ASSERT_TRUE(listens_on(probe, 1));
    cgroup = probe.listeners().front().cgroup_id;
  }
  late.cgroup_id = cgroup;
  ContainerAccess& found = add(late);
  ASSERT_TRUE(listens_on(found, 1));
  EXPECT_THAT(known.listeners(), IsEmpty());
}

TEST_F(AccessSetTest, AssignsUnclaimedListenersToTheFirstContainerAfterTheGracePeriod) {
  Container& first = container("first", ns.pid());
  first.engine_id = "f";
  first.cgroup_id = ~0UL;
  ContainerAccess& reach = add(first);
  const TimePoint began = clock.now();
  EXPECT_TRUE(listens_on(reach, 1));
  EXPECT_GE(clock.now() - began, 150ms) << "another container may be about to be found";
}

/// A container is undecided while its engine is asked for facts that affect its ports.
TEST_F(AccessSetTest, WithholdsListenersOfAnUndecidedContainer) {
  Container& late = container("late", ns.pid());
  late.undecided = true;
  ContainerAccess& reach = add(late);
  const TestNetns elsewhere;
  const UniqueFd other = elsewhere.listen({kLoopback, 9090});
  ASSERT_TRUE(listens_on(add(container("other", elsewhere.pid())), 1));
  EXPECT_THAT(reach.listeners(), IsEmpty());
  late.undecided = false;
  reaches.on_container_changed(late);
  EXPECT_TRUE(listens_on(reach, 1));
}

TEST_F(AccessSetTest, SharesADialerPerNamespace) {
  const TestNetns elsewhere;
  ContainerAccess& one = add(container("one", ns.pid()));
  ContainerAccess& other = add(container("other", ns.pid()));
  ContainerAccess& stranger = add(container("stranger", elsewhere.pid()));
  EXPECT_EQ(&one.dialer({Protocol::Tcp}), &other.dialer({Protocol::Tcp}));
  EXPECT_NE(&one.dialer({Protocol::Tcp}), &stranger.dialer({Protocol::Tcp}));
}

TEST_F(AccessSetTest, KeepsTheNamespaceAccessAfterItsFirstContainerIsRemoved) {
  Container& first = container("first", ns.pid());
  ContainerAccess& next = (add(first), add(container("next", ns.pid())));
  remove(first);
  const UniqueFd more = ns.listen({kLoopback, 8081});
  EXPECT_TRUE(listens_on(next, 2));
}

TEST_F(AccessSetTest, ReportsWhyAContainerCannotBeEntered) {
  Container& broken = container("broken", ns.pid());
  broken.netns_fd = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const ContainerAccess& reach = add(broken);
  EXPECT_EQ(reach.state(), ContainerState::Inaccessible);
  EXPECT_EQ(reach.kind(), AccessKind::None);
  EXPECT_THAT(reach.reason(), HasSubstr("cannot enter"));
}

}  // namespace
}  // namespace portfwd
