// Clients of a forward that its target rejects: refused, reset before accept, unreachable; over
// IPv4 and IPv6.
#include <gtest/gtest.h>

#include "support/forward_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

struct TurnedAwayTest : testing::TestWithParam<Family> {
  TurnedAwayTest() { rig.target = listen_on_loopback(GetParam()); }

  void expect_served_by_the_next(const UniqueFd& client, const Endpoint& there) {
    EXPECT_EQ(rig.port->waiting(), 1U);
    rig.target = listen_at(there);
    ASSERT_TRUE(rig.serve());
    write_all(rig.accept_inside(), "welcome");
    EXPECT_EQ(rig.receive(client, 7).text, "welcome");
    EXPECT_EQ(rig.port->counters().failed, 0U);
  }

  ForwardRig rig;
  Endpoint entry{IpAddress::loopback(GetParam()), kHostPort};
};

TEST_P(TurnedAwayTest, AreHeldWhenTheListenerHasClosed) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  rig.target.reset();
  const UniqueFd client = connect_to_port(entry);
  ASSERT_TRUE(rig.until([&] { return rig.target_refusals == 1; }));
  ASSERT_TRUE(rig.hold()) << "its end has become known";
  Timer later(rig.loop, [] {});
  later.arm_after(2 * StreamPort::kRedialDelay);
  ASSERT_TRUE(rig.until([&] { return !later.armed(); }));
  expect_served_by_the_next(client, there);
}

/// The kernel has completed the handshake, but the server closes before it accepts.
TEST_P(TurnedAwayTest, AreHeldWhenTheListenerClosedBeforeAccept) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd client = connect_to_port(entry);
  ASSERT_TRUE(rig.until([&] { return wait_for(rig.target.get(), POLLIN, 0); }));
  rig.target.reset();
  ASSERT_TRUE(rig.until([&] { return rig.target_refusals == 1; }));
  ASSERT_TRUE(rig.hold()) << "its end has become known";
  expect_served_by_the_next(client, there);
}

/// On a busy machine a server may close and return before the next poll of the watch.
TEST_P(TurnedAwayTest, AreServedWhenTheListenerReturnsBeforeAPoll) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  rig.target.reset();
  const UniqueFd client = connect_to_port(entry);
  ASSERT_TRUE(rig.until([&] { return rig.target_refusals == 1; }));
  rig.target = listen_at(there);
  write_all(rig.accept_inside(), "welcome");
  EXPECT_EQ(rig.receive(client, 7).text, "welcome");
  EXPECT_EQ(rig.target_refusals, 1);
  EXPECT_EQ(rig.port->counters().failed, 0U);
}

TEST_P(TurnedAwayTest, AreResetAfterASecondRefusal) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  rig.target.reset();
  const UniqueFd client = connect_to_port(entry);
  write_all(client, "anybody?");
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_EQ(rig.target_refusals, 2);
  EXPECT_EQ(rig.port->counters(), (Counters{.total = 1, .failed = 1}));
  EXPECT_EQ(rig.port->waiting(), 0U);
  rig.target = listen_at(there);
  auto [again, inside] = rig.connect_through(entry);
  write_all(inside, "now");
  EXPECT_EQ(rig.receive(again, 3).text, "now");
}

/// The server has accepted the connection, and resets it later.
TEST_P(TurnedAwayTest, AreResetWhenTheTargetResetsLater) {
  rig.start();
  auto [client, inside] = rig.connect_through(entry);
  Timer later(rig.loop, [] {});
  later.arm_after(1100ms);
  ASSERT_TRUE(rig.until([&] { return !later.armed(); }));
  reset_on_close(inside.get());
  inside.reset();
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_EQ(rig.target_refusals, 0);
  EXPECT_EQ(rig.port->waiting(), 0U);
}

TEST_P(TurnedAwayTest, AreResetWhenTheNetworkIsUnreachable) {
  const auto nowhere = IpAddress::parse(GetParam() == Family::V4 ? "192.0.2.1" : "2001:db8::1");
  const ListenAddress there{{nowhere.value(), 80}, false};
  ASSERT_TRUE(rig.bind() && rig.port->serve(rig.dialer, std::span(&there, 1)));
  const UniqueFd client = connect_to_port(entry);
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_EQ(rig.port->counters(), (Counters{.total = 1, .failed = 1}));
}

INSTANTIATE_TEST_SUITE_P(Over, TurnedAwayTest, testing::Values(Family::V4, Family::V6),
                         [](const auto& which) {
                           return which.param == Family::V4 ? "Ipv4" : "Ipv6";
                         });

}  // namespace
}  // namespace portfwd
