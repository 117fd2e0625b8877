// The forward table on real host ports: listeners, requests and settings in, forwards out.
#include "forward/forward_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <random>

#include "support/forward_table_fixture.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(ForwardTableTest, AListenerGetsItsOwnPortOnBothLoopbacks) {
  show(container("web"), {8080, 8081});
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/2", "+web:8081@8081 1/2"));
  EXPECT_THAT(table->forwards().infos().front().host_addresses, ElementsAre("127.0.0.1", "::1"));
  EXPECT_EQ(table->forwards().infos().front().url, "http://127.0.0.1:8080/");
}

TEST_F(ForwardTableTest, AClientOfTheHostPortReachesTheListener) {
  const UniqueFd server = listen_on({kInside, 8080});
  show(container("web"), {8080});
  UniqueFd client(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V6), 8080});
  (void)::connect(client.get(), address.get(), address.length);
  pollfd waiting{server.get(), POLLIN, 0};
  turn_until([&] { return ::poll(&waiting, 1, 0) == 1; });
  const UniqueFd accepted(::accept(server.get(), nullptr, nullptr));
  ASSERT_EQ(::write(client.get(), "hello", 5), 5);
  waiting.fd = accepted.get();
  turn_until([&] { return ::poll(&waiting, 1, 0) == 1; });
  EXPECT_EQ(only().counters.bytes_in, 5U);
}

/// A client of 127.0.0.1:8080, and the socket that the server inside has accepted for it.
struct ForwardLeftovers : ForwardTableTest {
  UniqueFd client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  UniqueFd accepted;
  TestAccess& web = container("web");

  void connect_and_close_the_listener() {
    const UniqueFd server = listen_on({kInside, 8080});
    show(web, {8080});
    const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V4), 8080});
    (void)::connect(client.get(), address.get(), address.length);
    pollfd waiting{server.get(), POLLIN, 0};
    turn_until([&] { return ::poll(&waiting, 1, 0) == 1; });
    accepted = UniqueFd(::accept(server.get(), nullptr, nullptr));
    turn_until([&] { return only().counters.active == 1; });
    show(web, {});
    turn_until([&] { return table->forwards().size() == 0; });
  }
  /// What the client receives of the text that the server sends; "" when it was reset.
  std::string served(const std::string& text) {
    EXPECT_EQ(::write(accepted.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
    pollfd waiting{client.get(), POLLIN, 0};
    turn_until([&] { return ::poll(&waiting, 1, 0) == 1; });
    std::string got(100, ' ');
    const ssize_t n = ::read(client.get(), got.data(), got.size());
    return n <= 0 ? "" : got.substr(0, static_cast<std::size_t>(n));
  }
  void expect_reset() {
    turn_until([this] { return table->forwards().draining().empty(); });
    char byte = 0;
    EXPECT_EQ(::recv(client.get(), &byte, 1, MSG_DONTWAIT), -1);
    EXPECT_EQ(errno, ECONNRESET);
  }
};

TEST_F(ForwardLeftovers, KeepsAConnectionWhoseListenerClosed) {
  settings.host.drain = 0s;
  apply_settings();
  connect_and_close_the_listener();
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1", "-web:8080 listener-closed"));
  UniqueFd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ASSERT_EQ(::setsockopt(other.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V4), 8080});
  EXPECT_EQ(::bind(other.get(), address.get(), address.length), 0) << "the host port is free";
  EXPECT_EQ(::listen(other.get(), 1), 0);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(relay.loop.turn(0s));
  EXPECT_EQ(served("still here"), "still here");
  EXPECT_EQ(table->forwards().draining().leftovers(), 1U);
  accepted.reset();
  client.reset();
  turn_until([&] { return table->forwards().draining().empty(); });
  EXPECT_EQ(table->forwards().draining().leftovers(), 0U);
}

TEST_F(ForwardLeftovers, EndsThemAfterDrainWhenTheContainerEnds) {
  settings.host.drain = 0s;
  apply_settings();
  connect_and_close_the_listener();
  removed(web, RemovalReason::Gone);
  expect_reset();
}

TEST_F(ForwardLeftovers, EndsThemAfterDrainWhenTheDaemonStops) {
  settings.host.drain = 0s;
  apply_settings();
  connect_and_close_the_listener();
  table->stop();
  expect_reset();
}

TEST_F(ForwardLeftovers, KeepsThemBesideANewForwardOfThePort) {
  connect_and_close_the_listener();
  show(web, {8080});
  EXPECT_EQ(only().host_port, 8080);
  EXPECT_EQ(served("still here"), "still here");
}

TEST_F(ForwardTableTest, TheSecondContainerWithAPortGetsTheFallbackAndIsToldWhy) {
  show(container("web"), {8080});
  show(container("api"), {8080});
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1", "+api:8080@20000 0/1"));
  EXPECT_THAT(table->forwards().infos().front().reason, HasSubstr("held by container web"));
}

TEST_F(ForwardTableTest, APortThatAProgramHoldsIsRemappedAndTheProgramNamed) {
  const UniqueFd other = listen_on({IpAddress::any(Family::V4), 8080});
  show(container("web"), {8080});
  EXPECT_EQ(only().host_port, 20000);
  EXPECT_EQ(only().reason, "port 8080 is held by python3 (pid 42)");
}

TEST_F(ForwardTableTest, BothFamiliesOrNeither) {
  const UniqueFd other = listen_on({IpAddress::loopback(Family::V6), 8080});
  show(container("web"), {8080});
  EXPECT_EQ(only().host_port, 20000);
}

TEST_F(ForwardTableTest, AListenerThatGoesLingersAndThenIsWithdrawn) {
  TestAccess& web = container("web");
  show(web, {8080});
  told.take();
  show(web, {});
  EXPECT_EQ(only().state, ForwardState::Lingering);
  EXPECT_THAT(told.ports, IsEmpty());
  turn_until([&] { return table->forwards().size() == 0; });
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 listener-closed"));
}

TEST_F(ForwardTableTest, LooksOnceMoreBeforeItWithdraws) {
  TestAccess& web = container("web");
  show(web, {8080});
  const std::string id = only().id;
  show(web, {});
  turn_until([&] { return web.hurried == 1; });
  EXPECT_EQ(only().state, ForwardState::Lingering);
  show(web, {8080});  // found by that poll
  EXPECT_EQ(only().state, ForwardState::Active);
  EXPECT_EQ(only().id, id);
  show(web, {});
  turn_until([&] { return table->forwards().size() == 0; });
  EXPECT_EQ(web.hurried, 2) << "once for each time";
}

TEST_F(ForwardTableTest, AListenerThatComesBackInTimeIsTheSameForward) {
  TestAccess& web = container("web");
  show(web, {8080});
  const std::string id = only().id;
  show(web, {});
  show(web, {8080});
  EXPECT_EQ(only().id, id);
  EXPECT_EQ(only().state, ForwardState::Active);
  EXPECT_THAT(told.ports, ElementsAre("+web:8080@8080 0/1"));
}

/// Containers in one namespace: that of the listener was found late.
TEST_F(ForwardTableTest, AListenerThatMovesToAnotherContainerKeepsItsHostPort) {
  settings.host.linger = 1min;
  TestAccess &web = container("web"), &side = container("side");
  show_socket(web, 8080, 7);
  show(web, {});
  show_socket(side, 8080, 7);
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1", "-web:8080 listener-closed",
                                       "+side:8080@8080 0/1"));
}

TEST_F(ForwardTableTest, AnotherListenerLeavesALingeringForwardItsHostPort) {
  settings.host.linger = 1min;
  TestAccess &web = container("web"), &side = container("side");
  show_socket(web, 8080, 7);
  show(web, {});
  show_socket(side, 8080, 8);
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1", "+side:8080@20000 0/1"));
}

/// The kernel prevents this unless both sockets have SO_REUSEADDR, which the test sets on that of
/// the forward.
TEST_F(ForwardTableTest, AHostPortThatAProgramTookFromALingeringForwardIsReplaced) {
  settings.host.hold = 0s;  // clients are refused meanwhile
  apply_settings();
  TestAccess& web = container("web");
  show(web, {8080});
  show(web, {});
  ASSERT_EQ(only().state, ForwardState::Lingering);
  const Endpoint at{IpAddress::loopback(Family::V4), 8080};
  const int on = 1;
  int ours = 0;
  while (ours < 1024 && local_endpoint(ours) != at) ++ours;
  ASSERT_EQ(::setsockopt(ours, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  const UniqueFd other(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::setsockopt(other.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  const SockAddr address = to_sockaddr(at);
  ASSERT_EQ(::bind(other.get(), address.get(), address.length), 0) << std::strerror(errno);
  ASSERT_EQ(::listen(other.get(), 1), 0);
  show(web, {8080});
  EXPECT_EQ(only().state, ForwardState::Active);
  EXPECT_THAT(told.take(),
              ElementsAre("+web:8080@8080 0/1", "-web:8080 replaced", "+web:8080@20000 0/1"));
}

TEST_F(ForwardTableTest, WhatReturnsGetsTheHostPortThatItHad) {
  TestAccess& web = container("web");
  {
    const UniqueFd other = listen_on({IpAddress::loopback(Family::V4), 8080});
    show(web, {8080});
    show(web, {});
    turn_until([&] { return table->forwards().size() == 0; });
  }
  show(web, {8080});
  EXPECT_EQ(only().host_port, 20000) << "8080 is free now, but clients know 20000";
}

TEST_F(ForwardTableTest, TheEndOfAContainerWithdrawsAtOnce) {
  TestAccess& web = container("web");
  show(web, {8080});
  told.take();
  removed(web, RemovalReason::Gone);
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 container-gone"));
}

TEST_F(ForwardTableTest, OneThatIsReplacedSaysSoAndLeavesItsHostPortToItsSuccessor) {
  TestAccess& old = container("web");
  show(old, {8080});
  told.take();
  removed(old, RemovalReason::Replaced);
  show(container("web"), {8080});
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 replaced", "+web:8080@8080 0/1"));
}

TEST_F(ForwardTableTest, AManualForwardWaitsForItsListener) {
  TestAccess& web = container("web");
  ASSERT_TRUE(ask(&web, 8080, {.host_port = Port{18080}}));
  EXPECT_EQ(only().state, ForwardState::Waiting);
  EXPECT_EQ(only().host_port, 18080);
  show(web, {8080});
  EXPECT_EQ(only().state, ForwardState::Active);
  show(web, {});
  EXPECT_EQ(only().state, ForwardState::Waiting);
  EXPECT_THAT(told.ports, ElementsAre("+web:8080@18080 0/1"));
}

TEST_F(ForwardTableTest, AManualForwardWhoseHostPortIsTakenIsRefusedAndChangesNothing) {
  const UniqueFd other = listen_on({IpAddress::loopback(Family::V4), 18080});
  TestAccess& web = container("web");
  show(web, {8080});
  const auto asked = ask(&web, 8080, {.host_port = Port{18080}});
  ASSERT_FALSE(asked);
  EXPECT_EQ(asked.error().kind, Refusal::Kind::PortInUse);
  EXPECT_EQ(only().origin, Origin::Auto);
  EXPECT_EQ(only().host_port, 8080);
}

TEST_F(ForwardTableTest, AskingForWhatIsThereMakesItManual) {
  TestAccess& web = container("web");
  show(web, {8080});
  const std::string id = only().id;
  EXPECT_EQ(ask(&web, 8080), id);
  EXPECT_EQ(only().origin, Origin::Manual);
  const auto again = ask(&web, 8080, {.host_port = Port{9090}});
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().text, HasSubstr("end forward " + id));
}

TEST_F(ForwardTableTest, AskingForWhatIsThereAtAnotherAddressMovesIt) {
  TestAccess& web = container("web");
  show(web, {8080});
  ASSERT_TRUE(ask(&web, 8080, {.bind = "127.0.0.9"}));
  EXPECT_EQ(only().origin, Origin::Manual);
  EXPECT_THAT(only().host_addresses, ElementsAre("127.0.0.9"));
  EXPECT_THAT(told.take(),
              ElementsAre("+web:8080@8080 0/1", "-web:8080 replaced", "+web:8080@8080 0/1"));
}

TEST_F(ForwardTableTest, ALingeringForwardThatIsAskedForStays) {
  TestAccess& web = container("web");
  show(web, {8080});
  show(web, {});
  ASSERT_EQ(only().state, ForwardState::Lingering);
  ASSERT_TRUE(ask(&web, 8080));
  EXPECT_EQ(only().state, ForwardState::Waiting);
  Timer later(relay.loop, [] {});
  later.arm_after(60ms);
  turn_until([&] { return !later.armed(); });
  EXPECT_EQ(table->forwards().size(), 1U) << "its linger time is over, but it is manual now";
}

TEST_F(ForwardTableTest, WhatAPersonEndedStaysAwayUntilItsListenerHasGoneAndComeBack) {
  TestAccess& web = container("web");
  show(web, {8080});
  ASSERT_TRUE(table->remove(only().id));
  show(web, {8080, 9090});
  EXPECT_EQ(only().container_port, 9090);
  EXPECT_TRUE(table->seen(web.container(), {Protocol::Tcp, 8080}).suppressed);
  show(web, {9090});
  show(web, {8080, 9090});
  EXPECT_EQ(table->forwards().size(), 2U);
}

TEST_F(ForwardTableTest, AForwardForAContainerThatMayComeIsAdoptedAndOutlivesIt) {
  ASSERT_TRUE(ask(nullptr, 8080, {.allow_missing = true}, "web"));
  EXPECT_EQ(only().state, ForwardState::Waiting);
  EXPECT_EQ(only().container_id, "");
  TestAccess& first = container("web");
  EXPECT_EQ(only().container_id, first.container().id);
  show(first, {8080});
  EXPECT_EQ(only().state, ForwardState::Active);
  removed(first, RemovalReason::Gone);
  EXPECT_EQ(only().state, ForwardState::Waiting);
  TestAccess& second = container("web");
  EXPECT_EQ(only().container_id, second.container().id);
  EXPECT_THAT(told.ports, ElementsAre("+web:8080@8080 0/1"));
}

TEST_F(ForwardTableTest, AReverseForwardThatTheContainerHasNoSocketForIsRefused) {
  TestAccess& web = container("web");
  const auto asked = ask(&web, 5432, {.direction = Direction::Reverse, .host_port = Port{15432}});
  ASSERT_FALSE(asked);
  EXPECT_EQ(asked.error().kind, Refusal::Kind::Inaccessible);
  EXPECT_THAT(asked.error().text, HasSubstr("cannot make a socket"));
  EXPECT_EQ(table->forwards().size(), 0U);
  EXPECT_THAT(told.ports, IsEmpty());
}

TEST_F(ForwardTableTest, AReverseForwardOutlivesItsContainerUnlessThatIsDetached) {
  ASSERT_TRUE(ask(nullptr, 5432, {.direction = Direction::Reverse, .allow_missing = true}, "web"));
  for (const RemovalReason reason : {RemovalReason::Gone, RemovalReason::Replaced}) {
    TestAccess& web = container("web");
    EXPECT_EQ(only().container_id, web.container().id);
    removed(web, reason);
    EXPECT_EQ(only().state, ForwardState::Waiting);
  }
  removed(container("web"), RemovalReason::Detached);
  EXPECT_EQ(table->forwards().size(), 0U);
}

TEST_F(ForwardTableTest, KeepsAPersistentForwardAcrossADetach) {
  for (const Direction direction : {Direction::In, Direction::Reverse}) {
    ASSERT_TRUE(ask(nullptr, 5432, {.direction = direction, .persist = true, .allow_missing = true},
                    "web"));
    removed(container("web"), RemovalReason::Detached);
    EXPECT_EQ(only().state, ForwardState::Waiting);
    ASSERT_TRUE(table->remove(only().id));
  }
}

TEST_F(ForwardTableTest, AForwardIsFoundByItsLifeline) {
  TestAccess& web = container("web");
  ASSERT_TRUE(table->add(&web, {.spec = {.target = {Protocol::Tcp, 8080}}, .lifeline = ":1.7"}));
  EXPECT_THAT(table->requests().of_lifeline(":1.8"), IsEmpty());
  EXPECT_THAT(table->requests().of_lifeline(":1.7"), ElementsAre(only().id));
  ASSERT_TRUE(table->remove(only().id));
  EXPECT_THAT(table->requests().of_lifeline(":1.7"), IsEmpty());
}

TEST_F(ForwardTableTest, AFloodIsLimitedAndToldOnce) {
  settings.host.max_forwards = 3;
  apply_settings();
  TestAccess& web = container("web");
  std::vector<Port> flood;
  for (Port p = 10000; p < 15000; ++p) flood.push_back(p);
  show(web, flood);
  show(web, flood);
  EXPECT_EQ(table->forwards().size(), 3U);
  EXPECT_THAT(told.ports, ElementsAre("!web 3", "+web:10000@10000 0/3", "+web:10001@10001 1/3",
                                      "+web:10002@10002 2/3"));
}

TEST_F(ForwardTableTest, AReloadWithdrawsWhatIsExcludedAndBringsWhatIsNot) {
  show(container("web"), {8080, 9090});
  settings.ports.exclude = {{9090, 9090}};
  told.take();
  apply_settings();
  EXPECT_THAT(told.take(), ElementsAre("-web:9090 rule"));
  settings.ports.exclude = {{8080, 8080}};
  apply_settings();
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 rule", "+web:9090@9090 0/1"));
}

TEST_F(ForwardTableTest, WithoutAnyHostPortLeftItIsAConflictUntilOneIsFree) {
  settings.host.fallback_range = {20000, 20000};
  apply_settings();
  auto first = listen_on({IpAddress::loopback(Family::V4), 8080});
  auto second = listen_on({IpAddress::loopback(Family::V4), 20000});
  TestAccess& web = container("web");
  show(web, {8080});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  EXPECT_THAT(told.ports, IsEmpty());
  first.reset();
  turn_until([&] { return only().state == ForwardState::Active; });
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1"));
}

TEST_F(ForwardTableTest, APersonMayAskForSoManyAndNoMore) {
  DeclaredForward& declared = settings.forwards.emplace_back();  // not a manual forward
  declared.container = "later";
  declared.target = {Protocol::Tcp, 80};
  apply_settings();
  for (std::ptrdiff_t i = 0; i < kMostManualRequests; ++i) {
    ASSERT_TRUE(ask(nullptr, static_cast<Port>(9000 + i), {.allow_missing = true}, "later"));
  }
  const auto refused = ask(nullptr, 8000, {.allow_missing = true}, "later");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Refusal::Kind::LimitExceeded);
  EXPECT_THAT(refused.error().text, HasSubstr("256 manual forwards"));
}

/// The forwards depend on the last state only, and a repeated report changes nothing.
TEST_F(ForwardTableTest, AnyOrderOfEventsEndsInTheSameForwards) {
  settings.host.linger = 0s;
  apply_settings();
  std::mt19937 random(42);  // NOLINT: a fixed seed, so that failures are reproducible
  TestAccess& web = container("web");
  for (int round = 0; round < 50; ++round) {
    std::vector<Port> ports;
    for (int step = 0; step < 8; ++step) {
      ports.clear();
      for (Port p = 9000; p < 9010; ++p) {
        if (random() % 2 == 0) ports.push_back(p);
      }
      show(web, ports);
    }
    turn_until([&] { return table->forwards().size() == ports.size(); });
    told.take();
    show(web, ports);
    EXPECT_THAT(told.take(), IsEmpty());
    std::vector<Port> forwarded;
    for (const ForwardInfo& f : table->forwards().infos()) forwarded.push_back(f.host_port);
    EXPECT_EQ(forwarded, ports);
  }
}

}  // namespace
}  // namespace portfwd
