// Authorization of UDP senders, with real users. Not one byte of a refused datagram reaches the
// target.
#include <gtest/gtest.h>

#include <functional>

#include "relay/datagram_port.h"
#include "relay/netns_dialer.h"
#include "support/addresses.h"
#include "support/datagram_sockets.h"
#include "support/manual_clock.h"
#include "support/socket_tap.h"
#include "support/user_process.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

constexpr uid_t kDaemon = 61001;
constexpr uid_t kOther = 61002;

struct UdpSenderTest : testing::TestWithParam<Family>, ForwardPortObserver {
  UdpSenderTest() {
    EXPECT_TRUE(port.bind(addresses(entry)));
    const ListenAddress there{*local_endpoint(target.get()), false};
    EXPECT_TRUE(port.serve(dialer, std::span(&there, 1)));
  }
  ~UdpSenderTest() override { EXPECT_EQ(::seteuid(0), 0); }
  void on_target_refused(ForwardPort&, const Error&) override { ADD_FAILURE(); }
  void on_drained(ForwardPort&) override {}

  bool until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (std::chrono::steady_clock::now() < deadline) {
      if (done()) return true;
      EXPECT_TRUE(loop.turn(10ms));
    }
    return false;
  }
  void send_from(UserProcess& client, Port from = 0) {
    EXPECT_EQ(client.connect(entry, from, Protocol::Udp), 0);
    EXPECT_EQ(client.send(), 0);
  }
  void expect_let_in() {
    std::string got;
    EXPECT_TRUE(until([&] { return !(got = take_one(target).text).empty(); }));
    EXPECT_EQ(got, UserProcess::kGreeting);
    EXPECT_EQ(port.counters().refused, 0U);
  }
  void expect_refused() {
    EXPECT_TRUE(until([&] { return port.counters().refused == 1; }));
    EXPECT_TRUE(loop.turn(10ms));
    EXPECT_EQ(take_one(target).error, EAGAIN);
  }

  int acting = ::seteuid(kDaemon);  // before the objects that the daemon would create
  Endpoint entry{IpAddress::loopback(GetParam()), 8053};
  UniqueFd target = bind_datagrams({IpAddress::loopback(Family::V4), 0});
  ManualClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  AcceptGate gate{loop, [](const Error& error) { ADD_FAILURE() << error.text(); }};
  ClientIdentity identity{*SockDiag::open(), kDaemon, Subuids("/nonexistent", "", kDaemon)};
  SocketTap sockets{SOCK_DGRAM};
  NetnsDialer dialer{context, sockets};
  DatagramPort port{{context, gate, identity}, {.name = "test"}, *this};
};

TEST_P(UdpSenderTest, OnesOwnAreLetIn) {
  UserProcess client(kDaemon);
  send_from(client);
  expect_let_in();
}

TEST_P(UdpSenderTest, RootsAreLetIn) {
  UserProcess client(0);
  send_from(client);
  expect_let_in();
}

TEST_P(UdpSenderTest, AnotherUsersAreRefused) {
  UserProcess client(kOther);
  send_from(client);
  expect_refused();
}

TEST_P(UdpSenderTest, RefusesAnotherUserOnTheSamePort) {
  UserProcess client(kDaemon);
  send_from(client, 40000);
  expect_let_in();
  ASSERT_EQ(client.close(), 0);
  UserProcess thief(kOther);
  clock.advance(DatagramPort::kExamineInterval);
  send_from(thief, 40000);
  expect_refused();
  EXPECT_EQ(port.counters().active, 0U) << "nothing of the old flow is his either";
}

TEST_P(UdpSenderTest, ANewSocketOnTheSamePortIsAnotherClient) {
  UserProcess client(kDaemon);
  send_from(client, 40000);
  expect_let_in();
  send_from(client, 40000);  // closes the socket before
  expect_let_in();
  EXPECT_EQ(port.counters().total, 1U) << "it was not looked at again yet";
  clock.advance(DatagramPort::kExamineInterval);
  ASSERT_EQ(client.send(), 0);
  expect_let_in();
  EXPECT_EQ(port.counters().total, 2U);
  EXPECT_EQ(port.counters().active, 1U);
}

TEST_P(UdpSenderTest, SendsNoAnswersToAnotherUserOnTheSamePort) {
  UserProcess client(kDaemon);
  send_from(client, 40000);
  Endpoint inside;
  ASSERT_TRUE(until([&] {
    const OneDatagram asked = take_one(target);
    inside = asked.from;
    return asked.error == 0;
  }));
  ASSERT_EQ(client.close(), 0);
  UserProcess thief(kOther);
  ASSERT_EQ(thief.connect(entry, 40000, Protocol::Udp), 0);
  clock.advance(DatagramPort::kExamineInterval);
  ASSERT_EQ(send_one_to(target, "a secret", inside), 0);
  EXPECT_TRUE(until([&] { return port.counters().active == 0; }));
  EXPECT_EQ(port.counters().bytes_out, 0U);
}

INSTANTIATE_TEST_SUITE_P(Each, UdpSenderTest, testing::Values(Family::V4, Family::V6),
                         [](const auto& which) {
                           return which.param == Family::V4 ? "Ipv4" : "Ipv6";
                         });

}  // namespace
}  // namespace portfwd
