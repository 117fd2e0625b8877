// One UDP forward on real host ports: binding, relaying, holding clients that cannot be served yet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/addresses.h"
#include "support/datagram_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;

struct DatagramPortTest : testing::Test {
  DatagramRig rig;
};

TEST_F(DatagramPortTest, ClientsOfBothFamiliesReachTheTargetAndGetItsAnswers) {
  rig.start();
  for (const Endpoint& to : kUdpEndpoints) {
    const UniqueFd client = datagrams_to(to);
    const OneDatagram asked = rig.ask(client, "ping");
    EXPECT_EQ(asked.text, "ping");
    ASSERT_EQ(send_one_to(rig.target, "pong!", asked.from), 0);
    EXPECT_EQ(rig.take(client).text, "pong!");
  }
  EXPECT_EQ(rig.counters(), (Counters{.active = 2, .total = 2, .bytes_in = 8, .bytes_out = 10}));
}

TEST_F(DatagramPortTest, GivesEachClientItsOwnPortInside) {
  rig.start();
  const UniqueFd one = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd two = datagrams_to(kUdpEndpoints[0]);
  const Endpoint first = rig.ask(one, "1").from;
  const Endpoint second = rig.ask(two, "2").from;
  EXPECT_NE(first, second);
  EXPECT_EQ(rig.ask(one, "again").from, first);
  ASSERT_EQ(send_one_to(rig.target, "to two", second), 0);
  EXPECT_EQ(rig.take(two).text, "to two");
  EXPECT_EQ(take_one(one).error, EAGAIN);
}

TEST_F(DatagramPortTest, RelaysDatagramsOfEverySize) {
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  for (const std::size_t size : {0UL, 1UL, 1472UL, 9000UL, 65'507UL}) {
    const std::string text(size, static_cast<char>('a' + size % 20));
    const OneDatagram asked = rig.ask(client, text);
    EXPECT_EQ(asked.error, 0);
    EXPECT_TRUE(asked.text == text) << size;
    ASSERT_EQ(send_one_to(rig.target, text, asked.from), 0);
    const OneDatagram answer = rig.take(client);
    EXPECT_TRUE(answer.error == 0 && answer.text == text) << size;
  }
}

TEST_F(DatagramPortTest, KeepsOrderAndBoundariesOfABurst) {
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  const Endpoint inside = rig.ask(client, "begin").from;
  std::vector<std::string> sent;
  for (std::size_t i = 0; i < 200; ++i) {
    sent.emplace_back(i % 7 == 0 ? 300 : i % 5 == 0 ? 0 : 100, static_cast<char>('a' + i % 26));
  }
  for (const std::string& one : sent) ASSERT_EQ(send_one(client, one), 0);
  for (const std::string& one : sent) EXPECT_EQ(rig.take(rig.target).text, one);
  for (const std::string& one : sent) ASSERT_EQ(send_one_to(rig.target, one, inside), 0);
  for (const std::string& one : sent) EXPECT_EQ(rig.take(client).text, one);
}

TEST_F(DatagramPortTest, KeepsDatagramsUntilThereIsASocketInside) {
  rig.sockets.run_dry();
  rig.start();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  for (const char* const text : {"one", "", "three"}) ASSERT_EQ(send_one(client, text), 0);
  ASSERT_TRUE(rig.until([&] { return rig.sockets.waiting() == 1; }));
  rig.sockets.refill();
  EXPECT_EQ(rig.take(rig.target).text, "one");
  EXPECT_EQ(rig.take(rig.target).text, "");
  EXPECT_EQ(rig.take(rig.target).text, "three");
  EXPECT_EQ(rig.counters().bytes_in, 8U);
}

TEST_F(DatagramPortTest, BindsBothFamiliesOrNeither) {
  {
    const UniqueFd taken = bind_datagrams(kUdpEndpoints[1]);
    const auto bound = rig.port->bind(addresses(kUdpEndpoints));
    ASSERT_FALSE(bound);
    EXPECT_EQ(bound.error().protocol, Protocol::Udp);
    EXPECT_EQ(bound.error().address, kUdpEndpoints[1]);
    EXPECT_EQ(bound.error().error.code, EADDRINUSE);
    EXPECT_TRUE(rig.port->addresses().empty());
    EXPECT_TRUE(bind_datagrams(kUdpEndpoints[0]).valid()) << "the first one was given back";
  }
  EXPECT_TRUE(rig.port->bind(addresses(kUdpEndpoints)));
}

TEST_F(DatagramPortTest, BindsBesideATcpServerOnTheSamePort) {
  const UniqueFd tcp = listen_at(kUdpEndpoints[0]);
  EXPECT_TRUE(rig.port->bind(addresses(kUdpEndpoints)));
}

TEST_F(DatagramPortTest, RefusesBeforeItHoldsOrServes) {
  ASSERT_TRUE(rig.port->bind(addresses(kUdpEndpoints)));
  for (const Endpoint& to : kUdpEndpoints) EXPECT_TRUE(rig.is_refused(datagrams_to(to)));
}

TEST_F(DatagramPortTest, HoldsClientsUntilThereIsAListener) {
  ASSERT_TRUE(rig.port->bind(addresses(kUdpEndpoints)));
  ASSERT_TRUE(rig.port->hold());
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  ASSERT_EQ(send_one(client, "early"), 0);
  ASSERT_TRUE(rig.loop.turn(10ms));
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "early");
}

TEST_F(DatagramPortTest, RefusesClientsAfterTheHoldTimeout) {
  ASSERT_TRUE(rig.port->bind(addresses(kUdpEndpoints)));
  ASSERT_TRUE(rig.port->hold());
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  ASSERT_EQ(send_one(client, "too early"), 0);
  ASSERT_TRUE(rig.loop.turn(10ms));
  rig.clock.advance(3s);
  ASSERT_TRUE(rig.port->hold()) << "said again, it is nothing new";
  rig.clock.advance(2s);
  ASSERT_TRUE(rig.until([&] { return rig.counters().failed == 1; }));
  EXPECT_TRUE(rig.is_refused(client));
  rig.clock.advance(5s);
  ASSERT_TRUE(rig.loop.turn(10ms));
  while (take_one(client).error != EAGAIN) {
  }
  ASSERT_EQ(send_one(client, "waits again"), 0);
  EXPECT_EQ(take_one(client).error, EAGAIN);
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "waits again");
}

TEST(DatagramPortHoldTest, RefusesWithoutHoldAndKeepsThePort) {
  DatagramRig rig({.hold = 0s, .name = "test"});
  ASSERT_TRUE(rig.port->bind(addresses(kUdpEndpoints)));
  ASSERT_TRUE(rig.port->hold());
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  EXPECT_TRUE(rig.is_refused(client));
  const UniqueFd rival = new_socket(Family::V4, SOCK_DGRAM);
  const SockAddr ours = to_sockaddr(kUdpEndpoints[0]);
  EXPECT_EQ(::bind(rival.get(), ours.get(), ours.length), -1);
  rig.serve();
  EXPECT_EQ(rig.ask(client, "now").text, "now");
}

}  // namespace
}  // namespace portfwd
