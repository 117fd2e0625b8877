// A port watch on a new namespace, with real sockets, counters and events.
#include "access/port_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>

#include "support/watched_netns.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

TEST_F(PortWatchTest, StaysDormantWhileNoSocketIsInUse) {
  Watched c(shared);
  ASSERT_TRUE(c.until([&] { return c.watch.initial_scan_done(); }));
  const UniqueFd unused = c.ns.socket(AF_INET, SOCK_STREAM);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(loop.turn(50ms));
  EXPECT_EQ(c.asked, 0);
  EXPECT_TRUE(c.watch.dormant());
  EXPECT_EQ(c.changes, 0);
}

TEST_F(PortWatchTest, FindsListenersThatWereOpenBefore) {
  Watched c(shared);
  const UniqueFd early = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until([&] { return c.watch.initial_scan_done(); }));
  EXPECT_THAT(c.endpoints(), ElementsAre(local_endpoint(early)));
}

TEST_F(PortWatchTest, ReportsEveryKindOfAddressAsBound) {
  Watched c(shared);
  const std::vector<Endpoint> wanted{{IpAddress::any(Family::V4), 1001},
                                     {kLoopback4, 1002},
                                     {IpAddress::v4(127, 0, 0, 53), 1003},
                                     {IpAddress::any(Family::V6), 1004},
                                     {kLoopback6, 1005}};
  std::vector<UniqueFd> open;
  for (Endpoint endpoint : wanted) {
    endpoint.port = static_cast<Port>(endpoint.port + 20000);
    open.push_back(c.ns.listen(endpoint));
  }
  ASSERT_TRUE(c.until_listeners(wanted.size()));
  std::vector<Endpoint> bound;
  for (const UniqueFd& fd : open) bound.push_back(local_endpoint(fd));
  std::ranges::sort(bound);
  EXPECT_EQ(c.endpoints(), bound);
}

TEST_F(PortWatchTest, DistinguishesAV6onlyWildcard) {
  Watched c(shared);
  const UniqueFd both = c.ns.listen({IpAddress::any(Family::V6), 20001}, false);
  const UniqueFd only = c.ns.listen({IpAddress::any(Family::V6), 20002}, true);
  ASSERT_TRUE(c.until_listeners(2));
  EXPECT_FALSE(c.watch.listeners()[0].v6only);
  EXPECT_TRUE(c.watch.listeners()[1].v6only);
}

TEST_F(PortWatchTest, ReportsANewListenerSoonAndACloseAtOnce) {
  Watched c(shared);
  UniqueFd first = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(1));
  ASSERT_TRUE(c.watch.receives_close_events());
  UniqueFd second = c.ns.listen({kLoopback4, 0});
  const TimePoint opened = loop.now();
  ASSERT_TRUE(c.until_listeners(2));
  EXPECT_LT(loop.now() - opened, 150ms);
  const TimePoint closed = loop.now();
  second.reset();
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_LT(loop.now() - closed, 60ms);
}

TEST_F(PortWatchTest, ReportsACloseWithoutPolling) {
  Watched c(shared);
  UniqueFd listener = c.ns.listen({kLoopback4, 0});
  const UniqueFd other = c.ns.listen({kLoopback6, 0});
  ASSERT_TRUE(c.until_listeners(2));
  Settings::Detect seldom;
  seldom.interval = 1h;
  pace.configure(seldom);
  const auto before = c.watch.dumps();
  listener.reset();
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_EQ(c.watch.dumps(), before);
}

TEST_F(PortWatchTest, DumpsWhenEventsWereLost) {
  Watched c(shared);
  UniqueFd events = c.ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
  const UniqueFd same(::dup(events.get()));
  c.provide = [&] {
    c.watch.use_diag(c.ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG), std::move(events));
  };
  const UniqueFd kept = c.ns.listen({kLoopback4, 0});
  std::vector<UniqueFd> many;
  for (int i = 0; i < 50; ++i) many.push_back(c.ns.listen({kLoopback4, 0}));
  ASSERT_TRUE(c.until_listeners(51));
  const int tiny = 1;  // room for one or two messages
  ASSERT_EQ(::setsockopt(same.get(), SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny), 0);
  Settings::Detect seldom;
  seldom.interval = 1h;
  pace.configure(seldom);
  many.clear();
  EXPECT_TRUE(c.until_listeners(1));
}

TEST_F(PortWatchTest, DoesNotNotifyWhenNothingChanged) {
  Watched c(shared);
  const UniqueFd listener = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(1));
  const int before = c.changes;
  const UniqueFd client = c.ns.socket(AF_INET, SOCK_STREAM);
  connect_to(client, local_endpoint(listener));
  c.poll_now();
  c.poll_now();
  EXPECT_EQ(c.changes, before);
}

TEST_F(PortWatchTest, NotifiesWhenAnotherSocketTakesOverAPort) {
  Watched c(shared);
  UniqueFd listener = c.ns.listen({kLoopback4, 20001});
  ASSERT_TRUE(c.until_listeners(1));
  const auto before = c.watch.listeners().front().cookie;
  listener.reset();
  listener = c.ns.listen({kLoopback4, 20001});
  ASSERT_TRUE(c.until([&] {
    return c.watch.listeners().size() == 1 && c.watch.listeners().front().cookie != before;
  }));
}

TEST_F(PortWatchTest, FindsAShutDownListenerByPolling) {
  Watched c(shared);
  const UniqueFd kept = c.ns.listen({kLoopback4, 0});
  const UniqueFd listener = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(2));
  ::shutdown(listener.get(), SHUT_RDWR);
  EXPECT_TRUE(c.until_listeners(1));
}

/// After a client was refused, the listeners must be current before they are dialled again.
TEST_F(PortWatchTest, DumpsAtOnceOnEvidenceBeyondTheBudget) {
  Watched c(shared);
  const UniqueFd kept = c.ns.listen({kLoopback4, 0});
  const UniqueFd first = c.ns.listen({kLoopback4, 0});
  const UniqueFd second = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(3));
  Settings::Detect never;
  never.interval = 1h;
  never.cpu_budget = 0.001;
  pace.configure(never);
  ::shutdown(first.get(), SHUT_RDWR);  // causes no event
  c.watch.poll_now();
  EXPECT_TRUE(c.until_listeners(2));
  ::shutdown(second.get(), SHUT_RDWR);
  const auto before = c.watch.dumps();
  for (int i = 0; i < 100; ++i) c.watch.poll_now();
  EXPECT_TRUE(c.until_listeners(1));
  EXPECT_EQ(c.watch.dumps(), before + 1);
}

TEST_F(PortWatchTest, KeepsAListenerWhileADuplicateIsOpen) {
  Watched c(shared);
  UniqueFd listener = c.ns.listen({kLoopback4, 0});
  UniqueFd held(::dup(listener.get()));
  ASSERT_TRUE(c.until_listeners(1));
  listener.reset();
  c.poll_now();
  EXPECT_THAT(c.watch.listeners(), SizeIs(1));
  held.reset();
  EXPECT_TRUE(c.until_listeners(0));
}

TEST_F(PortWatchTest, IgnoresSocketsOfTheDaemon) {
  Watched c(shared);
  const UniqueFd ours = c.ns.listen({kLoopback4, 0});
  c.watch.ignore(*socket_inode(ours.get()));
  const UniqueFd theirs = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_THAT(c.endpoints(), ElementsAre(local_endpoint(theirs)));
}

TEST_F(PortWatchTest, RemovesAReportedSocketThatIsIgnoredLater) {
  Watched c(shared);
  const UniqueFd ours = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(1));
  c.watch.ignore(*socket_inode(ours.get()));
  EXPECT_TRUE(c.until_listeners(0));
  const int before = c.changes;
  c.poll_now();
  EXPECT_EQ(c.changes, before);
}

TEST_F(PortWatchTest, DumpsAtEveryPollWithoutAProcess) {
  Watched c(shared, 0);
  const UniqueFd listener = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(1));
  const auto before = c.watch.dumps();
  ASSERT_TRUE(c.until([&] { return c.watch.dumps() > before + 3; }));
}

TEST_F(PortWatchTest, RequestsASourceAgainAfterAFailure) {
  Watched c(shared);
  c.provide = [&] { c.asked < 3 ? c.watch.diag_failed({EPERM, "setns"}) : c.give(); };
  const UniqueFd listener = c.ns.listen({kLoopback4, 0});
  EXPECT_TRUE(c.until_listeners(1));
  EXPECT_EQ(c.asked, 3);
}

TEST_F(PortWatchTest, RequestsASourceOnce) {
  Watched c(shared);
  c.provide = {};
  const UniqueFd listener = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until([&] { return c.asked == 1; }));
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(loop.turn(50ms));
  EXPECT_EQ(c.asked, 1);
  EXPECT_FALSE(c.watch.initial_scan_done());
  c.give();
  EXPECT_TRUE(c.until_listeners(1));
}

TEST_F(PortWatchTest, ReadsProcWhenNoSocketCanBeMade) {
  Watched c(shared);
  c.provide = [&] { EXPECT_TRUE(c.watch.use_procfs()); };
  UniqueFd v4 = c.ns.listen({kLoopback4, 0});
  const UniqueFd v6 = c.ns.listen({kLoopback6, 0});
  ASSERT_TRUE(c.until_listeners(2));
  EXPECT_THAT(c.endpoints(), ElementsAre(local_endpoint(v4), local_endpoint(v6)));
  v4.reset();
  EXPECT_TRUE(c.until_listeners(1));
}

struct PortWatchWithoutModules : PortWatchTest {
  PortWatchWithoutModules() : PortWatchTest(false, false) {
    Settings::Detect rich;
    rich.cpu_budget = 100;  // reading /proc is expensive
    pace.configure(rich);
  }
};

TEST_F(PortWatchWithoutModules, SwitchesToSockDiagOnceTheModuleIsLoaded) {
  Watched c(shared);
  c.provide = [&] { modules.of(Protocol::Tcp) ? c.give() : (void)c.watch.use_procfs(); };
  modules.set_observer([&] { c.watch.renew_source(); });
  UniqueFd listener = c.ns.listen({kLoopback4, 0});
  const UniqueFd kept = c.ns.listen({kLoopback6, 0});
  ASSERT_TRUE(c.until_listeners(2));
  EXPECT_EQ(c.watch.listeners().front().cookie, 0U) << "not read from /proc";
  look_at_modules();
  EXPECT_EQ(c.asked, 1) << "asked again though nothing has changed";
  has_tcp_diag = true;
  look_at_modules();
  ASSERT_TRUE(c.until([&] { return c.watch.listeners().front().cookie != 0; }));
  EXPECT_EQ(c.asked, 2);
  EXPECT_TRUE(c.watch.receives_close_events());
  listener.reset();
  EXPECT_TRUE(c.until_listeners(1));
}

TEST_F(PortWatchWithoutModules, KeepsReadingProcWhileItsProviderFails) {
  Watched c(shared);
  c.provide = [&] {
    c.asked == 1 ? (void)c.watch.use_procfs() : c.watch.diag_failed({EPERM, "setns"});
  };
  const UniqueFd first = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(1));
  c.watch.renew_source();
  ASSERT_TRUE(c.until([&] { return c.asked > 1; }));
  const UniqueFd second = c.ns.listen({kLoopback4, 0});
  EXPECT_TRUE(c.until_listeners(2));
  c.provide = [&] { c.give(); };
  EXPECT_TRUE(c.until([&] { return c.watch.receives_close_events(); })) << "given up";
}

struct PortWatchWithoutUdpDiag : PortWatchTest {
  PortWatchWithoutUdpDiag() : PortWatchTest(true, false) {}
};

/// The kernel of the test has udp_diag, so a request would be answered, with a cookie.
TEST_F(PortWatchWithoutUdpDiag, DoesNotUseUdpDiagUntilItIsLoaded) {
  udp.wanted = true;
  Watched c(shared);
  const UniqueFd server = c.ns.socket(AF_INET, SOCK_DGRAM);
  const SockAddr at = to_sockaddr({kLoopback4, 20053});
  ASSERT_EQ(::bind(server.get(), at.get(), at.length), 0);
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_EQ(c.watch.listeners().front().cookie, 0U);
  has_udp_diag = true;
  look_at_modules();
  EXPECT_TRUE(c.until([&] { return c.watch.listeners().front().cookie != 0; }));
}

TEST_F(PortWatchWithoutUdpDiag, KeepsAUdpListenerThatConnects) {
  udp.wanted = true;
  Watched c(shared);
  const UniqueFd server = c.ns.socket(AF_INET, SOCK_DGRAM);
  const SockAddr at = to_sockaddr({kLoopback4, 20053});
  ASSERT_EQ(::bind(server.get(), at.get(), at.length), 0);
  ASSERT_TRUE(c.until_listeners(1));
  connect_to(server, {kLoopback4, 20054});
  const UniqueFd web = c.ns.listen({kLoopback4, 20080});
  EXPECT_TRUE(c.until([&] {
    return std::ranges::count(c.watch.listeners(), Protocol::Tcp, &Listener::protocol) == 1;
  }));
}

TEST_F(PortWatchTest, KeepsListenersAndRetriesWithPausesWhenDumpsFail) {
  Watched c(shared);
  const UniqueFd listener = c.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(c.until_listeners(1));
  c.watch.use_diag(c.ns.socket(AF_INET, SOCK_DGRAM), {});
  const auto before = c.watch.dumps();
  for (const TimePoint end = loop.now() + 1s; loop.now() < end;) ASSERT_TRUE(loop.turn(50ms));
  EXPECT_LE(c.watch.dumps(), before + 6);
  EXPECT_THAT(c.watch.listeners(), SizeIs(1));
  c.give();
  const UniqueFd second = c.ns.listen({kLoopback4, 0});
  EXPECT_TRUE(c.until_listeners(2));
}

TEST_F(PortWatchTest, AThousandListenersAreAllReported) {
  Settings::Detect unlimited;  // a dump of so many may cost the budget of some seconds
  unlimited.cpu_budget = 100;
  pace.configure(unlimited);
  Watched c(shared);
  std::vector<UniqueFd> open;
  for (int i = 0; i < 900; ++i) open.push_back(c.ns.listen({kLoopback4, 0}));
  ASSERT_TRUE(c.until_listeners(900));
  open.clear();
  EXPECT_TRUE(c.until_listeners(0));
}

/// Connects and resets, repeatedly.
struct Connector {
  void run(int times) {
    for (int i = 0; i < times; ++i) {
      connect_to(client, local_endpoint(listener));
      const UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      const sockaddr nobody{AF_UNSPEC, {}};
      ::connect(client.get(), &nobody, sizeof nobody);
    }
  }
  UniqueFd listener, client;
};

TEST_F(PortWatchTest, LeavesTheGroupsWhileClosesExceedTheRateLimit) {
  Watched busy(shared), quiet(shared);
  Connector connector{busy.ns.listen({kLoopback4, 0}), busy.ns.socket(AF_INET, SOCK_STREAM)};
  const UniqueFd other = quiet.ns.listen({kLoopback4, 0});
  ASSERT_TRUE(busy.until(
      [&] { return busy.watch.receives_close_events() && quiet.watch.receives_close_events(); }));
  busy.limit_of_turn = 0ns;
  const auto nobody_hears = [&] {
    connector.run(200);
    return !busy.watch.receives_close_events() && !quiet.watch.receives_close_events();
  };
  ASSERT_TRUE(busy.until(nobody_hears, 3 * kDeadline)) << "needs 5000 connections a second";
  EXPECT_TRUE(rate_limit.exceeded(loop.now()));
  rate_limit = CloseRateLimit();  // no longer exceeded
  busy.limit_of_turn = 100ms;
  EXPECT_TRUE(busy.until(
      [&] { return busy.watch.receives_close_events() && quiet.watch.receives_close_events(); }));
}

TEST_F(PortWatchTest, StaysWithinThriceTheBudgetForFlappingPorts) {
  Watched c(shared);
  const UniqueFd kept = c.ns.listen({kLoopback4, 20000});
  ASSERT_TRUE(c.until_listeners(1));
  const Duration cpu = pace.total_cost();
  const TimePoint began = loop.now();
  UniqueFd changing;
  for (int i = 0; loop.now() < began + 3s; ++i) {
    if (i % 2 == 0) changing = c.ns.listen({kLoopback4, static_cast<Port>(20001 + i % 8)});
    if (i % 2 == 1) changing.reset();
    ASSERT_TRUE(loop.turn(500us));
  }
  const std::chrono::duration<double> spent = pace.total_cost() - cpu;
  const std::chrono::duration<double> passed = loop.now() - began;
  EXPECT_LE(100 * spent / passed, 3 * Settings::Detect{}.cpu_budget);
  changing.reset();
  EXPECT_TRUE(c.until_listeners(1));
}

}  // namespace
}  // namespace portfwd
