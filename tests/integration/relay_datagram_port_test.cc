// One UDP forward on real host ports: relaying, refusing, holding, ending flows, limits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "relay/datagram_port.h"
#include "relay/netns_dialer.h"
#include "support/datagram_sockets.h"
#include "support/manual_clock.h"
#include "support/socket_tap.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;

constexpr Port kHostPort = 8053;
constexpr std::array kBoth{Endpoint{IpAddress::loopback(Family::V4), kHostPort},
                           Endpoint{IpAddress::loopback(Family::V6), kHostPort}};

/// A forward whose target is a socket of the test.
struct Rig : ForwardPortObserver, AcceptGateObserver {
  explicit Rig(ForwardPortSettings settings = {.name = "test"})
      : port(std::make_unique<DatagramPort>(RelayServices{context, gate, identity}, settings,
                                            static_cast<ForwardPortObserver&>(*this))) {}

  void on_target_refused(ForwardPort&, const Error& error) override {
    refusals.push_back(error.code);
    if (on_refusal) on_refusal();
  }
  void on_drained(ForwardPort&) override {
    drained = true;
    loop.retire(std::move(port));
  }
  void on_descriptors_short(const Error&) override { ADD_FAILURE(); }

  void serve() {
    const ListenAddress there{*local_endpoint(target.get()), false};
    ASSERT_TRUE(port->serve(dialer, std::span(&there, 1)));
  }
  void start() {
    ASSERT_TRUE(port->bind(kBoth));
    serve();
  }
  bool until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      EXPECT_TRUE(loop.turn(10ms));
    }
    return done();
  }
  OneDatagram take(const UniqueFd& fd) {
    OneDatagram got{"", {}, EAGAIN};
    EXPECT_TRUE(until([&] {
      if (got.error == EAGAIN) got = take_one(fd);
      return got.error != EAGAIN;
    }));
    return got;
  }
  /// Sends until it is told that nobody is there.
  bool is_refused(const UniqueFd& client) {
    return until([&] {
      const int error = send_one(client, "anybody?");
      return error == ECONNREFUSED || take_one(client).error == ECONNREFUSED;
    });
  }
  /// A client's datagram, as the target gets it.
  OneDatagram ask(const UniqueFd& client, std::string_view text) {
    EXPECT_EQ(send_one(client, text), 0);
    return take(target);
  }
  [[nodiscard]] const Counters& counters() const { return port->counters(); }

  ManualClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  AcceptGate gate{loop, *this};
  ClientIdentity identity{*SockDiag::open(), ::geteuid(), Subuids("/nonexistent", "", 0)};
  UniqueFd target = bind_datagrams({IpAddress::loopback(Family::V4), 0});
  SocketTap sockets{SOCK_DGRAM};
  NetnsDialer dialer{context, sockets};
  std::unique_ptr<DatagramPort> port;
  std::vector<int> refusals;
  std::function<void()> on_refusal;
  bool drained = false;
};

struct DatagramPortTest : testing::Test {
  Rig rig;
};

TEST_F(DatagramPortTest, ClientsOfBothFamiliesReachTheTargetAndGetItsAnswers) {
  rig.start();
  for (const Endpoint& to : kBoth) {
    const UniqueFd client = datagrams_to(to);
    const OneDatagram asked = rig.ask(client, "ping");
    EXPECT_EQ(asked.text, "ping");
    ASSERT_EQ(send_one_to(rig.target, "pong!", asked.from), 0);
    EXPECT_EQ(rig.take(client).text, "pong!");
  }
  EXPECT_EQ(rig.counters(), (Counters{.active = 2, .total = 2, .bytes_in = 8, .bytes_out = 10}));
}

TEST_F(DatagramPortTest, EachClientIsAnotherOneInsideAndKeepsItsPlace) {
  rig.start();
  const UniqueFd one = datagrams_to(kBoth[0]);
  const UniqueFd two = datagrams_to(kBoth[0]);
  const Endpoint first = rig.ask(one, "1").from;
  const Endpoint second = rig.ask(two, "2").from;
  EXPECT_NE(first, second);
  EXPECT_EQ(rig.ask(one, "again").from, first);
  ASSERT_EQ(send_one_to(rig.target, "to two", second), 0);
  EXPECT_EQ(rig.take(two).text, "to two");
  EXPECT_EQ(take_one(one).error, EAGAIN);
}

TEST_F(DatagramPortTest, DatagramsOfEverySizeStayWhole) {
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
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

TEST_F(DatagramPortTest, ABurstOfMixedSizesKeepsItsOrderAndItsBoundaries) {
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
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

TEST_F(DatagramPortTest, WhatComesBeforeThereIsASocketInsideIsKept) {
  rig.sockets.run_dry();
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
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
    const UniqueFd taken = bind_datagrams(kBoth[1]);
    const auto bound = rig.port->bind(kBoth);
    ASSERT_FALSE(bound);
    EXPECT_EQ(bound.error().protocol, Protocol::Udp);
    EXPECT_EQ(bound.error().endpoint, kBoth[1]);
    EXPECT_EQ(bound.error().error.code, EADDRINUSE);
    EXPECT_TRUE(rig.port->endpoints().empty());
    EXPECT_TRUE(bind_datagrams(kBoth[0]).valid()) << "the first one was given back";
  }
  EXPECT_TRUE(rig.port->bind(kBoth));
}

TEST_F(DatagramPortTest, ATcpServerOnTheSameNumberIsNotInTheWay) {
  const UniqueFd tcp = listen_at(kBoth[0]);
  EXPECT_TRUE(rig.port->bind(kBoth));
}

TEST_F(DatagramPortTest, BeforeItHoldsOrServesItRefuses) {
  ASSERT_TRUE(rig.port->bind(kBoth));
  for (const Endpoint& to : kBoth) EXPECT_TRUE(rig.is_refused(datagrams_to(to)));
}

TEST_F(DatagramPortTest, WhoComesWhileNothingListensWaitsForTheListener) {
  ASSERT_TRUE(rig.port->bind(kBoth));
  ASSERT_TRUE(rig.port->hold());
  const UniqueFd client = datagrams_to(kBoth[0]);
  ASSERT_EQ(send_one(client, "early"), 0);
  ASSERT_TRUE(rig.loop.turn(10ms));
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "early");
}

TEST_F(DatagramPortTest, WhoWaitedTooLongIsRefusedForAsLong) {
  ASSERT_TRUE(rig.port->bind(kBoth));
  ASSERT_TRUE(rig.port->hold());
  const UniqueFd client = datagrams_to(kBoth[0]);
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

TEST(DatagramPortHoldTest, WithoutHoldClientsAreRefusedWhileThePortStaysOurs) {
  Rig rig({.hold = 0s, .name = "test"});
  ASSERT_TRUE(rig.port->bind(kBoth));
  ASSERT_TRUE(rig.port->hold());
  const UniqueFd client = datagrams_to(kBoth[0]);
  EXPECT_TRUE(rig.is_refused(client));
  const UniqueFd rival = new_socket(Family::V4, SOCK_DGRAM);
  const SockAddr ours = to_sockaddr(kBoth[0]);
  EXPECT_EQ(::bind(rival.get(), ours.get(), ours.length), -1);
  rig.serve();
  EXPECT_EQ(rig.ask(client, "now").text, "now");
}

TEST_F(DatagramPortTest, ATargetThatIsGoneIsToldToTheClient) {
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
  (void)rig.ask(client, "there");
  rig.target.reset();
  EXPECT_TRUE(rig.is_refused(client));
  EXPECT_THAT(rig.refusals, ElementsAre(ECONNREFUSED));
  EXPECT_EQ(rig.counters().failed, 1U);
  EXPECT_EQ(rig.counters().active, 0U);
}

TEST_F(DatagramPortTest, AfterARefusalItSoonTriesAgain) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd client = datagrams_to(kBoth[0]);
  rig.target.reset();
  ASSERT_TRUE(rig.is_refused(client));
  rig.target = bind_datagrams(there);
  rig.clock.advance(DatagramPort::kRefusal);
  ASSERT_TRUE(rig.loop.turn(10ms));
  while (take_one(client).error != EAGAIN) {
  }
  EXPECT_EQ(rig.ask(client, "back?").text, "back?");
}

TEST_F(DatagramPortTest, ClientsThatGetAnswersAreLeftAloneWhenAnotherIsRefused) {
  rig.start();
  const UniqueFd busy = datagrams_to(kBoth[0]);
  const UniqueFd lonely = datagrams_to(kBoth[0]);
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

TEST_F(DatagramPortTest, WhatTheTargetSaidLastArrivesThoughItHasGone) {
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
  const Endpoint inside = rig.ask(client, "last words?").from;
  ASSERT_EQ(send_one_to(rig.target, "farewell", inside), 0);
  rig.target.reset();
  ASSERT_TRUE(rig.port->hold()) << "before the loop has seen the answer";
  EXPECT_EQ(rig.take(client).text, "farewell");
}

TEST_F(DatagramPortTest, AConversationGoesOnThoughTheServerHearsNobodyElse) {
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
  const UniqueFd stranger = datagrams_to(kBoth[0]);
  const Endpoint inside = rig.ask(client, "be mine").from;
  ASSERT_EQ(try_connect(rig.target, inside), 0);
  ASSERT_TRUE(rig.port->hold());
  ASSERT_EQ(send_one(stranger, "and I?"), 0);
  EXPECT_EQ(rig.ask(client, "forever").text, "forever");
  ASSERT_EQ(send_one(rig.target, "and ever"), 0);
  EXPECT_EQ(rig.take(client).text, "and ever");
  EXPECT_EQ(rig.counters().bytes_in, 14U) << "the stranger waits";
}

TEST_F(DatagramPortTest, AFlowOutlivesTheRestartOfItsServer) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd client = datagrams_to(kBoth[0]);
  const Endpoint inside = rig.ask(client, "before").from;
  rig.target.reset();
  ASSERT_TRUE(rig.port->hold());
  rig.target = bind_datagrams(there);
  rig.serve();
  EXPECT_EQ(rig.ask(client, "after").from, inside);
}

TEST_F(DatagramPortTest, WithoutAListenerFlowsEndSoonAndLeaveTheNamespaceAlone) {
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
  (void)rig.ask(client, "hello");
  ASSERT_TRUE(rig.port->hold());
  EXPECT_EQ(rig.counters().active, 1U);
  rig.clock.advance(DatagramPort::kFinish);
  EXPECT_TRUE(rig.until([&] { return rig.counters().active == 0; }));
}

TEST_F(DatagramPortTest, WhoFindsItGoneWaitsForTheNext) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd client = datagrams_to(kBoth[0]);
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

TEST_F(DatagramPortTest, AQuestionAndItsAnswerLiveTenSecondsAConversationNinety) {
  rig.start();
  const UniqueFd dns = datagrams_to(kBoth[0]);
  const UniqueFd game = datagrams_to(kBoth[0]);
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

TEST(DatagramPortLimitTest, BeyondTheBoundTheOneUsedLongestAgoMakesRoom) {
  Rig rig({.max_connections = 2, .name = "test"});
  rig.start();
  const UniqueFd one = datagrams_to(kBoth[0]);
  const UniqueFd two = datagrams_to(kBoth[0]);
  const UniqueFd three = datagrams_to(kBoth[0]);
  const Endpoint first = rig.ask(one, "1").from;
  const Endpoint second = rig.ask(two, "2").from;
  rig.clock.advance(1ms);
  EXPECT_EQ(rig.ask(one, "1").from, first);
  EXPECT_EQ(rig.ask(three, "3").text, "3");
  EXPECT_EQ(rig.counters().active, 2U);
  EXPECT_EQ(rig.ask(one, "1").from, first);
  EXPECT_NE(rig.ask(two, "2").from, second) << "its place was given away";
}

TEST(DatagramPortLimitTest, AClientThatSendsFromAThousandPortsCostsNobodyHisConversation) {
  Rig rig({.max_connections = 8, .name = "test"});
  rig.start();
  const UniqueFd game = datagrams_to(kBoth[0]);
  const Endpoint inside = rig.ask(game, "1").from;
  ASSERT_EQ(send_one_to(rig.target, "2", inside), 0);
  EXPECT_EQ(rig.take(game).text, "2");
  EXPECT_EQ(rig.ask(game, "3").from, inside);
  for (int i = 0; i < 1000; ++i) {
    const UniqueFd once = datagrams_to(kBoth[0]);
    const Endpoint asked = rig.ask(once, "?").from;
    if (i % 2 == 0) continue;
    ASSERT_EQ(send_one_to(rig.target, "!", asked), 0);
    EXPECT_EQ(rig.take(once).text, "!");
  }
  EXPECT_EQ(rig.counters().active, 8U);
  EXPECT_EQ(rig.ask(game, "still there?").from, inside);
}

TEST_F(DatagramPortTest, DrainingGivesThePortUpAtOnce) {
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
  (void)rig.ask(client, "hello");
  rig.port->drain(5s);
  EXPECT_TRUE(bind_datagrams(kBoth[0]).valid());
  EXPECT_TRUE(rig.until([&] { return rig.drained; }));
}

TEST(DatagramPortWildcardTest, AnswersComeFromTheAddressThatWasAsked) {
  const IpAddress asked = IpAddress::v4(127, 0, 0, 7);
  Rig rig({.admission = {.restrict_to_user = false}, .name = "test"});
  const Endpoint anywhere{IpAddress::any(Family::V4), kHostPort};
  ASSERT_TRUE(rig.port->bind(std::span(&anywhere, 1)));
  rig.serve();
  const UniqueFd client = datagrams_to({asked, kHostPort});  // hears that address only
  const Endpoint inside = rig.ask(client, "you?").from;
  ASSERT_EQ(send_one_to(rig.target, "me", inside), 0);
  const OneDatagram answer = rig.take(client);
  EXPECT_EQ(answer.text, "me");
  EXPECT_EQ(answer.from, (Endpoint{asked, kHostPort}));
}

TEST_F(DatagramPortTest, AFlowEndsWithItsClientAndTheTargetIsTold) {
  rig.start();
  UniqueFd client = datagrams_to(kBoth[0]);
  const Endpoint inside = rig.ask(client, "stream to me").from;
  client.reset();
  rig.clock.advance(DatagramPort::kExamineAgain);
  ASSERT_EQ(send_one_to(rig.target, "stream", inside), 0);
  ASSERT_TRUE(rig.until([&] { return rig.counters().active == 0; }));
  EXPECT_EQ(rig.counters().bytes_out, 0U);
  EXPECT_EQ(rig.identity.refused().unidentified, 0U) << "it was nobody's attempt";
  ASSERT_EQ(try_connect(rig.target, inside), 0);
  ASSERT_EQ(send_one(rig.target, "stream"), 0);
  EXPECT_EQ(take_one(rig.target).error, ECONNREFUSED);
}

TEST(DatagramPortLoopTest, WhatComesInTheNameOfAHostPortIsNobodys) {
  Rig rig({.admission = {.restrict_to_user = false}, .name = "test"});
  const Endpoint anywhere{IpAddress::any(Family::V4), kHostPort};
  ASSERT_TRUE(rig.port->bind(std::span(&anywhere, 1)));
  rig.serve();
  const Endpoint forged{IpAddress::v4(127, 0, 0, 5), kHostPort};
  EXPECT_FALSE(rig.identity.still_let_in(forged, kBoth[0], {.restrict_to_user = false}));
  rig.port->drain(0s);
  EXPECT_TRUE(rig.identity.still_let_in(forged, kBoth[0], {.restrict_to_user = false}));
}

TEST_F(DatagramPortTest, ADialThatIsUnderWayEndsWithItsDialer) {
  rig.sockets.run_dry();
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
  ASSERT_EQ(send_one(client, "early"), 0);
  ASSERT_TRUE(rig.until([&] { return rig.sockets.waiting() == 1; }));
  rig.serve();
  EXPECT_EQ(rig.sockets.waiting(), 1U) << "another one instead";
  ASSERT_TRUE(rig.port->hold());
  EXPECT_EQ(rig.sockets.waiting(), 0U);
  rig.sockets.refill();
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "early") << "nothing is lost";
}

TEST_F(DatagramPortTest, WhoComesWhileOthersFinishWaitsForTheListener) {
  rig.start();
  const Endpoint there = *local_endpoint(rig.target.get());
  const UniqueFd one = datagrams_to(kBoth[0]);
  const UniqueFd two = datagrams_to(kBoth[0]);
  (void)rig.ask(one, "before");
  rig.target.reset();
  ASSERT_TRUE(rig.port->hold());
  ASSERT_EQ(send_one(two, "early"), 0);
  ASSERT_TRUE(rig.until([&] { return rig.counters().active == 2; }));
  rig.target = bind_datagrams(there);
  rig.serve();
  EXPECT_EQ(rig.take(rig.target).text, "early");
}

TEST_F(DatagramPortTest, ARefusalOfWhatWasKeptIsNoted) {
  rig.sockets.run_dry();
  rig.start();
  const UniqueFd client = datagrams_to(kBoth[0]);
  for (const char* const text : {"one", "two"}) ASSERT_EQ(send_one(client, text), 0);
  ASSERT_TRUE(rig.until([&] { return rig.sockets.waiting() == 1; }));
  ASSERT_TRUE(rig.loop.turn(10ms));
  rig.target.reset();
  rig.sockets.refill();
  EXPECT_TRUE(rig.until([&] { return rig.counters().failed == 1; }));
  EXPECT_TRUE(rig.is_refused(client));
}

TEST_F(DatagramPortTest, ASenderWhoIsGoneIsNobody) {
  rig.start();
  UniqueFd client = datagrams_to(kBoth[0]);
  ASSERT_EQ(send_one(client, "hit and run"), 0);
  client.reset();
  ASSERT_TRUE(rig.until([&] { return rig.counters().refused == 1; }));
  EXPECT_EQ(take_one(rig.target).error, EAGAIN);
}

}  // namespace
}  // namespace portfwd
