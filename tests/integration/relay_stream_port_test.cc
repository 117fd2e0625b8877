// One forward on real ports: binding, holding, serving, refusing, draining.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <thread>

#include "support/addresses.h"
#include "support/forward_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

struct StreamPortTest : testing::Test {
  ForwardRig rig;
};

TEST_F(StreamPortTest, ClientsOfBothFamiliesReachTheTarget) {
  rig.start();
  for (const Endpoint& to : kBoth) {
    auto [client, inside] = rig.connect_through(to);
    write_all(client, "ping");
    EXPECT_EQ(rig.receive(inside, 4).text, "ping");
    write_all(inside, "pong!");
    EXPECT_EQ(rig.receive(client, 5).text, "pong!");
  }
  EXPECT_TRUE(rig.until([&] { return rig.port->counters().active == 0; }));
  EXPECT_EQ(rig.port->counters(), (Counters{.total = 2, .bytes_in = 8, .bytes_out = 10}));
}

TEST_F(StreamPortTest, BindsBothFamiliesOrNeither) {
  {
    const UniqueFd taken = listen_at(kBoth[1]);
    const auto bound = rig.port->bind(addresses(kBoth));
    ASSERT_FALSE(bound);
    EXPECT_EQ(bound.error().address, kBoth[1]);
    EXPECT_EQ(bound.error().error.code, EADDRINUSE);
    EXPECT_TRUE(rig.port->addresses().empty());
    EXPECT_TRUE(listen_at(kBoth[0]).valid()) << "the first one was given back";
  }
  EXPECT_TRUE(rig.bind()) << "and another try may succeed";
}

/// A SYN that arrives during shutdown(2) of the listener is lost, and sent again a second later.
TEST_F(StreamPortTest, AnswersAtOnceWhileThePortIsBeingBound) {
  for (int taken = 0; taken < 300; ++taken) {
    ForwardRig passing;
    std::atomic<unsigned> refused = 0;
    std::atomic<bool> unanswered = false;
    std::thread client([&] {
      for (bool done = false; !done;) {
        const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const timeval patience{0, 500'000};
        ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        const SockAddr to = to_sockaddr(kBoth[0]);
        errno = 0;
        done = ::connect(fd.get(), to.get(), to.length) == 0 || errno != ECONNREFUSED;
        unanswered = errno == EINPROGRESS;
        ++refused;
      }
    });
    while (refused == 0) std::this_thread::yield();
    passing.start();
    client.join();
    ASSERT_FALSE(unanswered) << "the attempt " << refused << " at port " << taken;
  }
}

TEST_F(StreamPortTest, LeavesOutAFamilyThatTheHostLacks) {
  const char* const knob = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";
  ASSERT_TRUE(std::ofstream(knob) << 1 << std::flush);
  const auto bound = rig.port->bind(addresses(kBoth));
  const std::vector<Address> endpoints = rig.port->addresses();
  ForwardRig v6_alone;
  const auto nothing_left = v6_alone.port->bind(addresses(kBoth[1]));
  ASSERT_TRUE(std::ofstream(knob) << 0 << std::flush);
  EXPECT_TRUE(bound);
  EXPECT_EQ(endpoints, addresses(kBoth[0]));
  ASSERT_FALSE(nothing_left) << "one must remain";
  EXPECT_EQ(nothing_left.error().error.code, EADDRNOTAVAIL);
}

TEST_F(StreamPortTest, RefusesAClientThatClosesAtOnce) {
  rig.start();
  UniqueFd client = connect_to_port(kBoth[0]);
  write_all(client, "fire and forget");
  client.reset();
  ASSERT_TRUE(rig.until([&] { return rig.port->counters().refused == 1; }));
  EXPECT_EQ(rig.port->counters(), (Counters{.refused = 1}));
  EXPECT_FALSE(wait_for(rig.target.get(), POLLIN, 0));
}

TEST_F(StreamPortTest, HeldClientsAreServedWhenThereIsATarget) {
  ASSERT_TRUE(rig.bind() && rig.hold());
  const UniqueFd one = connect_to_port(kBoth[0]);
  const UniqueFd two = connect_to_port(kBoth[1]);
  write_all(one, "early");
  ::shutdown(one.get(), SHUT_WR);  // it sends no more, and still expects an answer
  ASSERT_TRUE(rig.until([&] { return rig.port->waiting() == 2; }));
  ASSERT_TRUE(rig.serve());
  const UniqueFd first = rig.accept_inside();
  const UniqueFd second = rig.accept_inside();
  Received from_one, from_two;
  ASSERT_TRUE(rig.until([&] {
    read_available(first, from_one);
    read_available(second, from_two);
    return from_one.text + from_two.text == "early";
  }));
  const UniqueFd& inside = from_one.text == "early" ? first : second;
  write_all(inside, "answer");
  EXPECT_EQ(rig.receive(one, 6).text, "answer");
}

TEST(StreamPortHoldTest, ResetsAHeldClientAfterTheHoldTimeout) {
  ForwardRig rig({.hold = 30ms, .name = "test"});
  ASSERT_TRUE(rig.bind() && rig.hold());
  const TimePoint before = rig.loop.now();
  const UniqueFd client = connect_to_port(kBoth[0]);
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_GE(rig.loop.now() - before, 30ms);
  EXPECT_EQ(rig.port->waiting(), 0U);
  EXPECT_EQ(rig.port->counters(), (Counters{.total = 1, .failed = 1}))
      << "the target did not answer";
}

TEST_F(StreamPortTest, RemovesAHeldClientThatResets) {
  ASSERT_TRUE(rig.bind() && rig.hold());
  UniqueFd client = connect_to_port(kBoth[0]);
  ASSERT_TRUE(rig.until([&] { return rig.port->waiting() == 1; }));
  reset(client);
  const TimePoint before = rig.loop.now();
  ASSERT_TRUE(rig.until([&] { return rig.port->waiting() == 0; }));
  EXPECT_LT(rig.loop.now() - before, 2s) << "long before the hold is over";
  EXPECT_EQ(rig.port->counters(), (Counters{.total = 1}));
}

TEST(StreamPortHoldTest, RefusesWithoutHoldAndKeepsThePort) {
  ForwardRig rig({.hold = 0s, .name = "test"});
  ASSERT_TRUE(rig.bind() && rig.hold());
  for (int round = 0; round < 2; ++round) {
    for (const Endpoint& at : kBoth) {
      EXPECT_EQ(connect_outcome(at), ECONNREFUSED);
      ForwardRig other;
      EXPECT_FALSE(other.bind()) << "the port is taken";
    }
    ASSERT_TRUE(rig.serve());
    auto [client, inside] = rig.connect_through();
    ASSERT_TRUE(rig.hold());
    write_all(client, "live ones go on");
    EXPECT_EQ(rig.receive(inside, 15).text, "live ones go on");
  }
}

TEST_F(StreamPortTest, HoldsAClientAgainWhenTheTargetClosesDuringADial) {
  ASSERT_TRUE(rig.bind());
  rig.sockets.run_dry();
  ASSERT_TRUE(rig.serve());
  const UniqueFd client = connect_to_port(kBoth[0]);
  ASSERT_TRUE(rig.until([&] { return rig.sockets.waiting() == 1; }));
  ASSERT_TRUE(rig.hold());
  EXPECT_EQ(rig.sockets.waiting(), 0U) << "the dial was given up";
  EXPECT_EQ(rig.port->waiting(), 1U);
  rig.sockets.refill();
  ASSERT_TRUE(rig.serve());
  const UniqueFd inside = rig.accept_inside();
  write_all(inside, "patience");
  EXPECT_EQ(rig.receive(client, 8).text, "patience");
}

TEST_F(StreamPortTest, AllowsTheObserverToHoldOnARefusal) {
  rig.start();
  rig.target.reset();
  rig.on_refusal = [&] { EXPECT_TRUE(rig.hold()); };
  const UniqueFd first = connect_to_port(kBoth[0]);
  EXPECT_EQ(rig.ending_of(first), Ending::Reset);
  const UniqueFd second = connect_to_port(kBoth[0]);
  EXPECT_TRUE(rig.until([&] { return rig.port->waiting() == 1; }));
}

TEST_F(StreamPortTest, KeepsConnectionsAndReleasesThePortWhenItDrains) {
  rig.start();
  auto [client, inside] = rig.connect_through();
  rig.port->drain(20s);
  EXPECT_EQ(connect_outcome(kBoth[0]), ECONNREFUSED);
  write_all(client, "bye");
  client.reset();
  EXPECT_EQ(rig.receive(inside, SIZE_MAX).text, "bye");
  EXPECT_EQ(rig.drained, 0);
  inside.reset();
  EXPECT_TRUE(rig.until([&] { return rig.drained == 1; }));
}

TEST_F(StreamPortTest, ResetsConnectionsAtTheDrainLimit) {
  rig.start();
  auto [client, inside] = rig.connect_through();
  rig.port->drain(20ms);
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_EQ(rig.ending_of(inside), Ending::Reset);
  EXPECT_EQ(rig.drained, 1);
}

TEST_F(StreamPortTest, ResetsWaitingClientsWhenItDrainsAndNotifiesLater) {
  ASSERT_TRUE(rig.bind() && rig.hold());
  const UniqueFd client = connect_to_port(kBoth[0]);
  ASSERT_TRUE(rig.until([&] { return rig.port->waiting() == 1; }));
  rig.port->drain(20s);
  EXPECT_EQ(rig.drained, 0) << "never from within";
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_TRUE(rig.until([&] { return rig.drained == 1; })) << "nothing to wait for";
}

TEST_F(StreamPortTest, ResetsAllClientsWhenItIsDestroyed) {
  rig.start();
  auto [client, inside] = rig.connect_through();
  rig.sockets.run_dry();
  const UniqueFd waiting = connect_to_port(kBoth[0]);
  ASSERT_TRUE(rig.until([&] { return rig.port->waiting() == 1; }));
  rig.port.reset();
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_EQ(rig.ending_of(inside), Ending::Reset);
  EXPECT_EQ(rig.ending_of(waiting), Ending::Reset);
  EXPECT_EQ(rig.sockets.waiting(), 0U);
}

}  // namespace
}  // namespace portfwd
