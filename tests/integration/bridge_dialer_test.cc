// Dialling a container from outside, at its own addresses, over a real pair of devices.
#include "relay/bridge_dialer.h"

#include <gtest/gtest.h>

#include "support/box.h"
#include "support/veth.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

constexpr IpAddress kAny4 = IpAddress::any(Family::V4);
constexpr IpAddress kAny6 = IpAddress::any(Family::V6);
constexpr IpAddress kLoopback4 = IpAddress::loopback(Family::V4);
constexpr IpAddress kLoopback6 = IpAddress::loopback(Family::V6);

struct BridgeDialerTest : testing::Test, DialHandler {
  BridgeDialerTest() {
    auto inside = BridgeDialer::Inside::open(box.pid());
    EXPECT_TRUE(inside) << inside.error().text();
    if (inside) dialer.emplace(context, std::move(*inside));
  }
  void on_dialled(Result<UniqueFd> connected) override {
    EXPECT_FALSE(dialling) << "called from within dial()";
    outcome = std::move(connected);
  }
  /// @return where it got, or errno
  std::pair<std::optional<Endpoint>, int> dial(const std::vector<Endpoint>& candidates) {
    outcome.reset();
    dialling = true;
    const auto attempt = dialer->dial(candidates, loop.now() + 10s, *this);
    dialling = false;
    const TimePoint limit = loop.now() + 20s;
    while (!outcome && loop.now() < limit) EXPECT_TRUE(loop.turn(20ms));
    if (!outcome) return {std::nullopt, ETIME};
    if (!*outcome) return {std::nullopt, outcome->error().code};
    return {peer_endpoint((*outcome)->get()), 0};
  }

  Box box = Box::of_roots();
  SystemClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  std::optional<BridgeDialer> dialer;
  std::optional<Result<UniqueFd>> outcome;
  bool dialling = false;
};

TEST_F(BridgeDialerTest, AWildcardIsDialledAtTheContainersAddress) {
  const Veth veth(box.pid(), 1);
  ASSERT_EQ(box.open({kAny4, 8080}), 0);
  EXPECT_EQ(dial({{kLoopback4, 8080}}).first, (Endpoint{veth.v4(), 8080}));
}

TEST_F(BridgeDialerTest, OneOfIpv6TooAndWithAnIpv4ClientToo) {
  const Veth veth(box.pid(), 1);
  ASSERT_EQ(box.open({kAny6, 8080}), 0);
  EXPECT_EQ(dial({{kLoopback6, 8080}}).first, (Endpoint{veth.v6(), 8080}));
  EXPECT_EQ(dial({{kLoopback4, 8080}}).first, (Endpoint{veth.v4(), 8080}));
}

TEST_F(BridgeDialerTest, AListenerOnAnAddressOfItsOwnIsDialledThere) {
  const Veth one(box.pid(), 1), two(box.pid(), 2);
  ASSERT_EQ(box.open({two.v4(), 8080}), 0);
  EXPECT_EQ(dial({{two.v4(), 8080}}).first, (Endpoint{two.v4(), 8080}));
}

TEST_F(BridgeDialerTest, EveryAddressIsTriedUntilOneAnswers) {
  const Veth one(box.pid(), 1), two(box.pid(), 2);
  ASSERT_EQ(box.open({two.v4(), 8080}), 0);
  EXPECT_EQ(dial({{kLoopback4, 8080}}).first, (Endpoint{two.v4(), 8080}));
}

TEST_F(BridgeDialerTest, WithoutAnAddressThereIsNoWay) {
  ASSERT_EQ(box.open({kAny4, 8080}), 0);
  EXPECT_EQ(dial({{kLoopback4, 8080}}).second, EHOSTUNREACH);
}

TEST_F(BridgeDialerTest, AnAddressThatComesLaterCounts) {
  ASSERT_EQ(box.open({kAny4, 8080}), 0);
  EXPECT_EQ(dial({{kLoopback4, 8080}}).second, EHOSTUNREACH);
  const Veth veth(box.pid(), 1);
  EXPECT_EQ(dial({{kLoopback4, 8080}}).first, (Endpoint{veth.v4(), 8080}));
}

TEST_F(BridgeDialerTest, ARefusalStaysARefusal) {
  const Veth veth(box.pid(), 1);
  EXPECT_EQ(dial({{kLoopback4, 8080}}).second, ECONNREFUSED);
}

/// The host has the same address, and a server of its own there.
TEST_F(BridgeDialerTest, WhereAnotherMachineAnswersTheConnectionIsNotHandedOver) {
  const IpAddress shared = IpAddress::v4(10, 99, 0, 5);
  ASSERT_EQ(box.add_address(shared), 0);
  ASSERT_EQ(box.open({shared, 8080}), 0);
  ip("address add 10.99.0.5/32 dev lo");
  const UniqueFd elsewhere = listen_at({shared, 8080});
  EXPECT_EQ(dial({{shared, 8080}}).second, EHOSTUNREACH);
  ip("address del 10.99.0.5/32 dev lo");
}

TEST_F(BridgeDialerTest, DestroyingTheAttemptCancelsIt) {
  const Veth veth(box.pid(), 1);
  ASSERT_EQ(box.open({kAny4, 8080}), 0);
  dialer->dial(std::vector<Endpoint>{{kLoopback4, 8080}}, loop.now() + 10s, *this).reset();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(loop.turn(10ms));
  EXPECT_FALSE(outcome);
}

}  // namespace
}  // namespace portfwd
