// A port watch that watches UDP as well.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/watched_netns.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;

struct UdpWatchTest : PortWatchTest {
  UdpWatchTest() { udp.wanted = true; }
  static UniqueFd bind(const Watched& c, const Endpoint& at) {
    UniqueFd fd = c.ns.socket(address_family(at.address.family()), SOCK_DGRAM);
    const SockAddr address = to_sockaddr(at);
    EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0) << std::strerror(errno);
    return fd;
  }
};

TEST_F(UdpWatchTest, FindsBoundUnconnectedSocketsOfBothFamilies) {
  Watched c(shared);
  const UniqueFd v4 = bind(c, {IpAddress::any(Family::V4), 7000});
  const UniqueFd v6 = bind(c, {kLoopback6, 7001});
  const UniqueFd group = bind(c, {IpAddress::v4(224, 0, 0, 251), 7002});
  const UniqueFd client = c.ns.socket(AF_INET, SOCK_DGRAM);
  connect_to(client, {kLoopback4, 7000});
  const UniqueFd tcp = c.ns.listen({kLoopback4, 7000});
  ASSERT_TRUE(c.until_listeners(3));
  EXPECT_THAT(c.endpoints(),
              ElementsAre(local_endpoint(tcp), local_endpoint(v4), local_endpoint(v6)));
  EXPECT_EQ(c.watch.listeners()[0].protocol, Protocol::Tcp);
  EXPECT_EQ(c.watch.listeners()[1].protocol, Protocol::Udp);
}

TEST_F(UdpWatchTest, ReportsEphemeralPortsOnlyWhenNamed) {
  Watched c(shared);
  const UniqueFd resolver = bind(c, {IpAddress::any(Family::V4), 40000});
  const UniqueFd server = bind(c, {kLoopback4, 7000});
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_THAT(c.endpoints(), ElementsAre(local_endpoint(server)));
  udp.named = {{40000, 40000}};
  EXPECT_TRUE(c.until_listeners(2));
}

TEST_F(UdpWatchTest, CanBeEnabledAndDisabledAtRuntime) {
  udp.wanted = false;
  Watched c(shared);
  const UniqueFd tcp = c.ns.listen({kLoopback4, 7000});
  const UniqueFd server = bind(c, {kLoopback4, 7000});
  ASSERT_TRUE(c.until_listeners(1));
  udp.wanted = true;
  ASSERT_TRUE(c.until_listeners(2));
  udp.wanted = false;
  EXPECT_TRUE(c.until_listeners(1));
}

TEST_F(UdpWatchTest, KeepsAServerThatConnectsToItsClient) {
  Watched c(shared);
  UniqueFd server = bind(c, {IpAddress::any(Family::V4), 7000});
  ASSERT_TRUE(c.until_listeners(1));
  const auto before = c.watch.listeners();
  connect_to(server, {kLoopback4, 9000});
  c.poll_now();
  EXPECT_EQ(c.watch.listeners(), before);
  server.reset();
  EXPECT_TRUE(c.until_listeners(0));
}

TEST_F(UdpWatchTest, ReportsACloseAtOnce) {
  Watched c(shared);
  UniqueFd server = bind(c, {kLoopback4, 7000});
  ASSERT_TRUE(c.until_listeners(1));
  ASSERT_TRUE(c.watch.receives_close_events());
  const auto looks = c.watch.dumps();
  server.reset();
  ASSERT_TRUE(c.until_listeners(0));
  EXPECT_EQ(c.watch.dumps(), looks) << "without looking";
}

TEST_F(UdpWatchTest, LeavesTheGroupsForAWhileWhenManySocketsClose) {
  Watched c(shared);
  const UniqueFd server = bind(c, {kLoopback4, 7000});
  ASSERT_TRUE(c.until_listeners(1));
  ASSERT_TRUE(c.watch.receives_close_events());
  ASSERT_TRUE(c.until([&] {
    c.ns.churn(SOCK_DGRAM, 2000);
    return !c.watch.receives_close_events();
  }));
  EXPECT_TRUE(rate_limit.exceeded(loop.now()));
  rate_limit = CloseRateLimit();  // no longer exceeded
  ASSERT_TRUE(c.until([&] { return c.watch.receives_close_events(); }));
  EXPECT_THAT(c.endpoints(), ElementsAre(local_endpoint(server)));
}

TEST_F(UdpWatchTest, ReadsProcWhenNoSocketCanBeMade) {
  Watched c(shared);
  c.provide = [&] { EXPECT_TRUE(c.watch.use_procfs()); };
  const UniqueFd server = bind(c, {kLoopback6, 7000});
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_EQ(c.watch.listeners()[0].protocol, Protocol::Udp);
  EXPECT_THAT(c.endpoints(), ElementsAre(local_endpoint(server)));
}

}  // namespace
}  // namespace portfwd
