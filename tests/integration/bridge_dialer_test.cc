// Dialling of a container from outside, at its own addresses, over a real pair of devices.
#include "relay/bridge_dialer.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/box.h"
#include "support/deadline.h"
#include "support/veth.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

constexpr IpAddress kAny4 = IpAddress::any(Family::V4);
constexpr IpAddress kAny6 = IpAddress::any(Family::V6);
constexpr IpAddress kLoopback4 = IpAddress::loopback(Family::V4);
constexpr IpAddress kLoopback6 = IpAddress::loopback(Family::V6);

constexpr const char* kRange = "/proc/sys/net/ipv4/ip_local_port_range";

/// Connects from that endpoint to port 8080 of its own address; never closes the socket.
int connect_inside(BoxInside&, const BoxArgument& a) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SockAddr from = to_sockaddr(a.at);
  const SockAddr to = to_sockaddr({a.at.address, 8080});
  if (::bind(fd.get(), from.get(), from.length) != 0) return errno;
  if (::connect(fd.get(), to.get(), to.length) != 0) return errno;
  (void)fd.release();
  return 0;
}

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
  /// @return the endpoint that was reached, or an errno
  std::pair<std::optional<Endpoint>, int> dial(const std::vector<Address>& candidates) {
    outcome.reset();
    dialling = true;
    DialStart start = dialer->dial(candidates, loop.now() + 10s, *this);
    dialling = false;
    if (start.connected.valid()) outcome = std::move(start.connected);
    const TimePoint limit = loop.now() + kDeadline;
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

/// The host has the same address, with a server of its own.
TEST_F(BridgeDialerTest, WhereAnotherMachineAnswersTheConnectionIsNotHandedOver) {
  const IpAddress shared = IpAddress::v4(10, 99, 0, 5);
  ASSERT_EQ(box.add_address(shared), 0);
  ASSERT_EQ(box.open({shared, 8080}), 0);
  ip("address add 10.99.0.5/32 dev lo");
  const UniqueFd elsewhere = listen_at({shared, 8080});
  EXPECT_EQ(dial({{shared, 8080}}).second, EHOSTUNREACH);
  ip("address del 10.99.0.5/32 dev lo");
}

/// The same, and the container has made connections of its own that look like the peers of the
/// daemon's connections, from every port that the host may use.
TEST_F(BridgeDialerTest, FarEndsThatTheContainerMadeUpProveNothing) {
  constexpr Port kFirst = 40000;
  constexpr Port kLast = 40015;
  std::string usual;
  std::getline(std::ifstream(kRange), usual);
  std::ofstream(kRange) << kFirst << " " << kLast;
  const IpAddress shared = IpAddress::v4(10, 99, 0, 5);
  ASSERT_EQ(box.add_address(shared), 0);
  ASSERT_EQ(box.open({shared, 8080}), 0);
  ip("address add 10.99.0.5/32 dev lo");
  const UniqueFd elsewhere = listen_at({shared, 8080});
  for (Port port = kFirst; port <= kLast; ++port) {
    ASSERT_EQ(box.tell(connect_inside, {.at = {shared, port}}), 0) << port;
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(dial({{shared, 8080}}).second, EHOSTUNREACH);
  ip("address del 10.99.0.5/32 dev lo");
  std::ofstream(kRange) << usual;
}

TEST_F(BridgeDialerTest, DestroyingTheAttemptCancelsIt) {
  const Veth veth(box.pid(), 1);  // nothing listens; that is reported in the next turn
  const std::vector<Address> there{{kLoopback4, 8080}};
  DialStart start = dialer->dial(there, loop.now() + 10s, *this);
  ASSERT_NE(start.attempt, nullptr);
  start.attempt.reset();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(loop.turn(10ms));
  EXPECT_FALSE(outcome);
}

}  // namespace
}  // namespace portfwd
