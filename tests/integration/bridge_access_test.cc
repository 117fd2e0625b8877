// Containers that cannot be entered: what the daemon sees of them, and which of their listeners it
// reaches.
#include <gmock/gmock.h>

#include "access/access_set.h"
#include "support/access_fixture.h"
#include "support/box.h"
#include "support/veth.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr IpAddress kAny4 = IpAddress::any(Family::V4);
constexpr IpAddress kLoopback4 = IpAddress::loopback(Family::V4);

struct BridgeAccessTest : AccessTest {
  bool becomes_reachable(const ContainerAccess& reach) {
    return turn_until([&] {
      return !reach.listeners().empty() && reach.listeners().front().unreachable.empty();
    });
  }
  Box box = Box::of_roots();
};

TEST_F(BridgeAccessTest, AWildcardListenerIsReached) {
  const Veth veth(box.pid(), 1);
  ASSERT_EQ(box.open({kAny4, 8080}), 0);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_EQ(web.state(), ContainerState::Watched);
  EXPECT_EQ(web.kind(), AccessKind::Bridge);
  EXPECT_EQ(web.reason(), "");
  EXPECT_THAT(web.listeners().front().unreachable, IsEmpty());
}

TEST_F(BridgeAccessTest, ReportsALoopbackListenerWithTheRemedy) {
  const Veth veth(box.pid(), 1);
  ASSERT_EQ(box.open({kLoopback4, 8080}), 0);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_THAT(web.listeners().front().unreachable, HasSubstr("127.0.0.1 inside"));
  EXPECT_THAT(web.reason(), HasSubstr("port 8080"));
  EXPECT_THAT(web.reason(), HasSubstr("listen on 0.0.0.0, or run the container rootless"));
}

TEST_F(BridgeAccessTest, RejectsAnInsidePortWithTheRemedy) {
  const auto none = add(sealed_container("web", box.pid()))
                        .listen_inside({Target(Protocol::Tcp, 5432), {}},
                                       [](const InsideSockets&) { ADD_FAILURE(); });
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().text,
              AllOf(HasSubstr("cannot enter"), HasSubstr("run the container rootless")));
}

TEST_F(BridgeAccessTest, ReportsNoReasonForTheResolverOfAnEngine) {
  ASSERT_EQ(box.open({IpAddress::v4(127, 0, 0, 11), 40000}), 0);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_EQ(web.reason(), "");
}

TEST_F(BridgeAccessTest, ReachesAListenerOnceTheContainerHasAnAddress) {
  ASSERT_EQ(box.open({kAny4, 8080}), 0);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_THAT(web.reason(), HasSubstr("no address"));
  const Veth veth(box.pid(), 1);
  EXPECT_TRUE(becomes_reachable(web));
  EXPECT_EQ(web.reason(), "");
}

TEST_F(BridgeAccessTest, ReportsAUdpSocketAsUnreachable) {
  const Veth veth(box.pid(), 1);
  reaches.set_udp_interest({.wanted = true});
  ASSERT_EQ(box.open_datagrams({kAny4, 5353}), 0);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_THAT(web.listeners().front().unreachable, HasSubstr("receives UDP"));
}

TEST_F(BridgeAccessTest, ReportsAddedAndRemovedListeners) {
  const Veth veth(box.pid(), 1);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_EQ(box.open({kAny4, 8080}), 0);
  ASSERT_EQ(box.open({kAny4, 8081}), 0);
  ASSERT_TRUE(listens_on(web, 2));
  box.close(8080);
  EXPECT_TRUE(listens_on(web, 1));
}

/// As with a process that was executed into the container while it started.
TEST_F(BridgeAccessTest, ReportsListenersAfterTheFoundProcessHasExited) {
  const Box other = Box::beside(box);
  const Veth veth(box.pid(), 1);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  box.end();
  ASSERT_EQ(other.open({kAny4, 8080}), 0);
  EXPECT_TRUE(listens_on(web, 1));
}

TEST_F(BridgeAccessTest, ThoseOfOneNamespaceShareIt) {
  const Box beside = Box::beside(box);
  ContainerAccess& one = add(sealed_container("one", box.pid()));
  ContainerAccess& two = add(sealed_container("two", beside.pid()));
  EXPECT_EQ(&one.dialer({Protocol::Tcp}), &two.dialer({Protocol::Tcp}));
}

TEST_F(BridgeAccessTest, HasNoAccessWithoutAProcess) {
  Container& named = sealed_container("named", 0);
  const ContainerAccess& reach = add(named);
  EXPECT_EQ(reach.state(), ContainerState::Inaccessible);
  EXPECT_EQ(reach.reason(), named.inaccessible);
}

}  // namespace
}  // namespace portfwd
