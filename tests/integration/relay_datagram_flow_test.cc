// Ends of the flows of a UDP forward: refused, evicted, idle, without a client, drained; and what a
// client may cost others.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/addresses.h"
#include "support/datagram_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;

struct DatagramFlowTest : testing::Test {
  DatagramRig rig;
};

TEST_F(DatagramFlowTest, ReportsAClosedTargetToTheClient) {
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  (void)rig.ask(client, "there");
  rig.target.reset();
  EXPECT_TRUE(rig.is_refused(client));
  EXPECT_THAT(rig.refusals, ElementsAre(ECONNREFUSED));
  EXPECT_EQ(rig.counters().failed, 1U);
  EXPECT_EQ(rig.counters().active, 0U);
}

/// The second datagram of each learns that the first one was refused.
TEST_F(DatagramFlowTest, EndsAllFlowsThatAreRefusedAtOnce) {
  rig.start();
  std::array<UniqueFd, 3> clients;
  for (UniqueFd& client : clients) {
    client = datagrams_to(kUdpEndpoints[0]);
    (void)rig.ask(client, "hello");
  }
  rig.target.reset();
  for (const UniqueFd& client : clients) {
    for (const char* const text : {"1", "second"}) ASSERT_EQ(send_one(client, text), 0);
  }
  EXPECT_TRUE(rig.until([&] { return rig.counters().active == 0; }));
  EXPECT_EQ(rig.counters().failed, clients.size());
}

TEST_F(DatagramFlowTest, DialsAgainSoonAfterARefusal) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  rig.target.reset();
  ASSERT_TRUE(rig.is_refused(client));
  rig.target = bind_datagrams(there);
  rig.clock.advance(DatagramPort::kRefusal);
  ASSERT_TRUE(rig.loop.turn(10ms));
  while (take_one(client).error != EAGAIN) {
  }
  EXPECT_EQ(rig.ask(client, "back?").text, "back?");
}

TEST_F(DatagramFlowTest, KeepsOtherFlowsWhenOneIsRefused) {
  rig.start();
  const UniqueFd busy = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd lonely = datagrams_to(kUdpEndpoints[0]);
  const Endpoint busy_inside = rig.ask(busy, "1").from;
  const Endpoint lonely_inside = rig.ask(lonely, "2").from;
  ASSERT_EQ(send_one_to(rig.target, "yes", busy_inside), 0);
  EXPECT_EQ(rig.take(busy).text, "yes");
  ASSERT_EQ(try_connect(rig.target, busy_inside), 0) << "it serves one client only from now on";
  ASSERT_EQ(send_one(lonely, "still there?"), 0);
  ASSERT_TRUE(rig.until([&] { return !rig.refusals.empty(); }));
  EXPECT_NE(lonely_inside, busy_inside);
  EXPECT_EQ(rig.ask(busy, "3").text, "3");
}

TEST_F(DatagramFlowTest, DeliversTheLastAnswerOfAClosedTarget) {
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  const Endpoint inside = rig.ask(client, "last words?").from;
  ASSERT_EQ(send_one_to(rig.target, "farewell", inside), 0);
  rig.target.reset();
  ASSERT_TRUE(rig.port->hold()) << "before the loop has seen the answer";
  EXPECT_EQ(rig.take(client).text, "farewell");
}

TEST_F(DatagramFlowTest, KeepsAFlowToAServerThatConnectedToItsClient) {
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd stranger = datagrams_to(kUdpEndpoints[0]);
  const Endpoint inside = rig.ask(client, "be mine").from;
  ASSERT_EQ(try_connect(rig.target, inside), 0);
  ASSERT_TRUE(rig.port->hold());
  ASSERT_EQ(send_one(stranger, "and I?"), 0);
  EXPECT_EQ(rig.ask(client, "forever").text, "forever");
  ASSERT_EQ(send_one(rig.target, "and ever"), 0);
  EXPECT_EQ(rig.take(client).text, "and ever");
  EXPECT_EQ(rig.counters().bytes_in, 14U) << "the stranger waits";
}

TEST_F(DatagramFlowTest, KeepsAFlowAcrossARestartOfTheServer) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  const Endpoint inside = rig.ask(client, "before").from;
  rig.target.reset();
  ASSERT_TRUE(rig.port->hold());
  rig.target = bind_datagrams(there);
  rig.serve();
  EXPECT_EQ(rig.ask(client, "after").from, inside);
}

TEST_F(DatagramFlowTest, EndsFlowsAfterATimeoutWithoutAListener) {
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  (void)rig.ask(client, "hello");
  ASSERT_TRUE(rig.port->hold());
  EXPECT_EQ(rig.counters().active, 1U);
  rig.clock.advance(DatagramPort::kFinishTimeout);
  EXPECT_TRUE(rig.until([&] { return rig.counters().active == 0; }));
}

TEST_F(DatagramFlowTest, HoldsDatagramsAfterTheLastFlowWasRefused) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  (void)rig.ask(client, "before");
  rig.target.reset();
  ASSERT_TRUE(rig.port->hold());
  ASSERT_EQ(send_one(client, "lost"), 0);
  ASSERT_TRUE(rig.until([&] { return rig.counters().active == 0; }));
  ASSERT_EQ(send_one(client, "waits"), 0);
  ASSERT_TRUE(rig.loop.turn(10ms));
  rig.target = bind_datagrams(there);
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "waits");
}

TEST_F(DatagramFlowTest, ExpiresAnsweredFlowsSoonerThanOthers) {
  rig.start();
  const UniqueFd dns = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd game = datagrams_to(kUdpEndpoints[0]);
  for (const UniqueFd* client : {&dns, &game, &game}) {
    ASSERT_EQ(send_one_to(rig.target, "answer", rig.ask(*client, "question").from), 0);
    EXPECT_EQ(rig.take(*client).text, "answer");
  }
  EXPECT_EQ(rig.counters().active, 2U);
  rig.clock.advance(10s);
  ASSERT_TRUE(rig.until([&] { return rig.counters().active == 1; }));
  rig.clock.advance(80s);
  ASSERT_TRUE(rig.until([&] { return rig.counters().active == 0; }));
}

TEST(DatagramFlowLimitTest, EvictsTheLeastRecentlyUsedFlowAtTheLimit) {
  DatagramRig rig({.max_connections = 2, .name = "test"});
  rig.start();
  const UniqueFd one = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd two = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd three = datagrams_to(kUdpEndpoints[0]);
  const Endpoint first = rig.ask(one, "1").from;
  const Endpoint second = rig.ask(two, "2").from;
  rig.clock.advance(1ms);
  EXPECT_EQ(rig.ask(one, "1").from, first);
  EXPECT_EQ(rig.ask(three, "3").text, "3");
  EXPECT_EQ(rig.counters().active, 2U);
  EXPECT_EQ(rig.ask(one, "1").from, first);
  EXPECT_NE(rig.ask(two, "2").from, second) << "its place was given away";
}

TEST(DatagramFlowLimitTest, KeepsAnEstablishedFlowWhenAClientUsesAThousandPorts) {
  DatagramRig rig({.max_connections = 8, .name = "test"});
  rig.start();
  const UniqueFd game = datagrams_to(kUdpEndpoints[0]);
  const Endpoint inside = rig.ask(game, "1").from;
  ASSERT_EQ(send_one_to(rig.target, "2", inside), 0);
  EXPECT_EQ(rig.take(game).text, "2");
  EXPECT_EQ(rig.ask(game, "3").from, inside);
  for (int i = 0; i < 1000; ++i) {
    const UniqueFd once = datagrams_to(kUdpEndpoints[0]);
    const Endpoint asked = rig.ask(once, "?").from;
    if (i % 2 == 0) continue;
    ASSERT_EQ(send_one_to(rig.target, "!", asked), 0);
    EXPECT_EQ(rig.take(once).text, "!");
  }
  EXPECT_EQ(rig.counters().active, 8U);
  EXPECT_EQ(rig.ask(game, "still there?").from, inside);
}

TEST_F(DatagramFlowTest, ReleasesThePortAtOnceWhenItDrains) {
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  (void)rig.ask(client, "hello");
  rig.port->drain(5s);
  EXPECT_TRUE(bind_datagrams(kUdpEndpoints[0]).valid());
  EXPECT_TRUE(rig.until([&] { return rig.drained; }));
}

TEST(DatagramPortWildcardTest, AnswersFromTheAddressThatTheClientUsed) {
  const IpAddress asked = IpAddress::v4(127, 0, 0, 7);
  DatagramRig rig({.admission = {.restrict_to_user = false}, .name = "test"});
  const Endpoint anywhere{IpAddress::any(Family::V4), kUdpPort};
  ASSERT_TRUE(rig.port->bind(addresses(anywhere)));
  rig.serve();
  const UniqueFd client = datagrams_to({asked, kUdpPort});  // receives from that address only
  const Endpoint inside = rig.ask(client, "you?").from;
  ASSERT_EQ(send_one_to(rig.target, "me", inside), 0);
  const OneDatagram answer = rig.take(client);
  EXPECT_EQ(answer.text, "me");
  EXPECT_EQ(answer.from, (Endpoint{asked, kUdpPort}));
}

TEST_F(DatagramFlowTest, EndsAFlowWhenItsClientHasClosedAndReportsItToTheTarget) {
  rig.start();
  UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  const Endpoint inside = rig.ask(client, "stream to me").from;
  client.reset();
  rig.clock.advance(DatagramPort::kExamineInterval);
  ASSERT_EQ(send_one_to(rig.target, "stream", inside), 0);
  ASSERT_TRUE(rig.until([&] { return rig.counters().active == 0; }));
  EXPECT_EQ(rig.counters().bytes_out, 0U);
  EXPECT_EQ(rig.identity.refused().unidentified, 0U) << "it was nobody's attempt";
  ASSERT_EQ(try_connect(rig.target, inside), 0);
  ASSERT_EQ(send_one(rig.target, "stream"), 0);
  EXPECT_EQ(take_one(rig.target).error, ECONNREFUSED);
}

TEST(DatagramPortLoopTest, RefusesSendersWithTheAddressOfAHostPort) {
  DatagramRig rig({.admission = {.restrict_to_user = false}, .name = "test"});
  const Endpoint anywhere{IpAddress::any(Family::V4), kUdpPort};
  ASSERT_TRUE(rig.port->bind(addresses(anywhere)));
  rig.serve();
  const Endpoint forged{IpAddress::v4(127, 0, 0, 5), kUdpPort};
  EXPECT_FALSE(
      rig.identity.is_still_allowed(forged, kUdpEndpoints[0], {.restrict_to_user = false}, 0));
  rig.port->drain(0s);
  EXPECT_TRUE(
      rig.identity.is_still_allowed(forged, kUdpEndpoints[0], {.restrict_to_user = false}, 0));
}

TEST_F(DatagramFlowTest, CancelsDialsWhenTheDialerChanges) {
  rig.sockets.run_dry();
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  ASSERT_EQ(send_one(client, "early"), 0);
  ASSERT_TRUE(rig.until([&] { return rig.sockets.waiting() == 1; }));
  rig.serve();
  EXPECT_EQ(rig.sockets.waiting(), 0U);
  EXPECT_TRUE(rig.until([&] { return rig.sockets.waiting() == 1; })) << "another one instead";
  ASSERT_TRUE(rig.port->hold());
  EXPECT_EQ(rig.sockets.waiting(), 0U);
  rig.sockets.refill();
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "early") << "nothing is lost";
}

TEST_F(DatagramFlowTest, HoldsNewFlowsWhileOthersFinish) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd one = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd two = datagrams_to(kUdpEndpoints[0]);
  (void)rig.ask(one, "before");
  rig.target.reset();
  ASSERT_TRUE(rig.port->hold());
  ASSERT_EQ(send_one(two, "early"), 0);
  ASSERT_TRUE(rig.until([&] { return rig.counters().active == 2; }));
  rig.target = bind_datagrams(there);
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "early");
}

TEST_F(DatagramFlowTest, CountsARefusalOfKeptDatagrams) {
  rig.sockets.run_dry();
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  for (const char* const text : {"one", "two"}) ASSERT_EQ(send_one(client, text), 0);
  ASSERT_TRUE(rig.until([&] { return rig.sockets.waiting() == 1; }));
  ASSERT_TRUE(rig.loop.turn(10ms));
  rig.target.reset();
  rig.sockets.refill();
  EXPECT_TRUE(rig.until([&] { return rig.counters().failed == 1; }));
  EXPECT_TRUE(rig.is_refused(client));
}

TEST_F(DatagramFlowTest, RefusesASenderThatHasClosed) {
  rig.start();
  UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  ASSERT_EQ(send_one(client, "hit and run"), 0);
  client.reset();
  ASSERT_TRUE(rig.until([&] { return rig.counters().refused == 1; }));
  EXPECT_EQ(take_one(rig.target).error, EAGAIN);
}

}  // namespace
}  // namespace portfwd
