// save() and restore() of relays and ports: connections continue, and no byte is lost.
#include "relay/port_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <random>
#include <vector>

#include "support/datagram_rig.h"
#include "support/forward_rig.h"
#include "support/relay_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

// ---- one relay ----------------------------------------------------------------------------------

struct RelayRecordTest : testing::TestWithParam<Kinds> {
  /// Replaces the relay by one that is created from its record, with another RelayContext.
  void hand_over() {
    RelayRecord record = *rig.relay->save();
    rig.relay.reset();
    held = record.client.pump.bytes.size();
    successor.emplace(rig.loop);
    rig.relay = std::make_unique<Relay>(*successor, rig.group, std::move(record));
    ASSERT_TRUE(rig.relay->resume());
  }

  /// Destroys the relay before its context, even if it is retired.
  void TearDown() override {
    rig.relay.reset();
    ASSERT_TRUE(rig.loop.turn(0ms));
  }

  RelayRig rig{GetParam()};
  std::optional<RelayContext> successor;
  std::size_t held = 0;  ///< bytes of the client in the record, except those in a pipe
};

INSTANTIATE_TEST_SUITE_P(Streams, RelayRecordTest,
                         testing::Values(Kinds{StreamKind::Tcp4, StreamKind::Tcp4},
                                         Kinds{StreamKind::Tcp4, StreamKind::Tcp6},
                                         Kinds{StreamKind::Unix, StreamKind::Unix}),
                         kinds_name);

TEST_P(RelayRecordTest, CarriesBytesBothWaysAfterARestore) {
  write_all(rig.client, "before");
  EXPECT_EQ(rig.receive(rig.target, 6).text, "before");
  hand_over();
  write_all(rig.client, "question");
  EXPECT_EQ(rig.receive(rig.target, 8).text, "question");
  write_all(rig.target, "the answer");
  EXPECT_EQ(rig.receive(rig.client, 10).text, "the answer");
  EXPECT_EQ(rig.counters.bytes_in, 14U);
  EXPECT_EQ(rig.counters.bytes_out, 10U);
}

/// The bytes are in a pipe: the direction is in bulk mode, and its sink accepts nothing.
TEST_P(RelayRecordTest, DeliversBytesInThePipeAfterARestore) {
  const std::size_t written = rig.fill(rig.client);
  ASSERT_GT(rig.context.pipes().leased(), 0U);
  hand_over();
  EXPECT_EQ(rig.context.pipes().leased(), 0U);
  EXPECT_EQ(successor->pipes().leased(), 1U);
  rig.client.reset();
  const Received got = rig.receive_to_end(rig.target);
  EXPECT_EQ(got.text.size(), written);
  EXPECT_EQ(got.ending, Ending::Fin);
}

/// The bytes are in memory: the direction copies, since all messages are small.
TEST_P(RelayRecordTest, DeliversBytesInMemoryAfterARestore) {
  std::string sent;
  for (int blocked = 0; blocked < 50;) {
    const std::string message = random_text(Pump::kBulkRead / 2);
    const ssize_t n = ::send(rig.client.get(), message.data(), message.size(), MSG_NOSIGNAL);
    if (n > 0) sent.append(message, 0, static_cast<std::size_t>(n));
    blocked = n > 0 ? 0 : blocked + 1;
    ASSERT_TRUE(rig.loop.turn(1ms));
  }
  hand_over();
  EXPECT_GT(held, 0U);
  ::shutdown(rig.client.get(), SHUT_WR);
  const Received got = rig.receive_to_end(rig.target);
  EXPECT_TRUE(got.text == sent);
  EXPECT_EQ(got.ending, Ending::Fin);
}

TEST_P(RelayRecordTest, KeepsAHalfClosedConnection) {
  write_all(rig.client, "request");
  ::shutdown(rig.client.get(), SHUT_WR);
  const Received request = rig.receive_to_end(rig.target);
  EXPECT_EQ(request.ending, Ending::Fin);
  hand_over();
  write_all(rig.target, "answer");
  EXPECT_EQ(rig.receive(rig.client, 6).text, "answer");
  rig.target.reset();
  EXPECT_EQ(rig.receive_to_end(rig.client).ending, Ending::Fin);
  EXPECT_TRUE(rig.until([&] { return rig.relay == nullptr; }));
}

TEST_P(RelayRecordTest, RelaysAnEndOfStreamThatArrivedBetweenSaveAndRestore) {
  RelayRecord record = *rig.relay->save();
  rig.relay.reset();
  write_all(rig.target, "last words");
  rig.target.reset();
  rig.relay = std::make_unique<Relay>(rig.context, rig.group, std::move(record));
  ASSERT_TRUE(rig.relay->resume());
  const Received got = rig.receive_to_end(rig.client);
  EXPECT_EQ(got.text, "last words");
  EXPECT_EQ(got.ending, Ending::Fin);
}

TEST_P(RelayRecordTest, ResetsBothSidesWhenTheRecordIsDestroyed) {
  { const RelayRecord record = *rig.relay->save(); }
  rig.relay.reset();
  const bool unix = GetParam().first == StreamKind::Unix;  // cannot be reset
  EXPECT_EQ(rig.receive_to_end(rig.client).ending, unix ? Ending::Fin : Ending::Reset);
  EXPECT_EQ(rig.receive_to_end(rig.target).ending, unix ? Ending::Fin : Ending::Reset);
}

/// A RST must not discard what is in the send queue. Until that is empty, the relay is about to
/// end.
TEST(RelayRecord, KeepsAPendingResetAcrossARestore) {
  RelayRig rig({StreamKind::Tcp4, StreamKind::Tcp4});
  const std::size_t written = rig.fill(rig.client);
  reset(rig.client);
  rig.settle();
  ASSERT_NE(rig.relay, nullptr);
  RelayRecord record = *rig.relay->save();
  rig.relay = std::make_unique<Relay>(rig.context, rig.group, std::move(record));
  ASSERT_TRUE(rig.relay->resume());
  const Received got = rig.receive_to_end(rig.target);
  EXPECT_LE(got.text.size(), written);
  EXPECT_GT(got.text.size(), 0U);
  EXPECT_EQ(got.ending, Ending::Reset);
}

/// Streams in both directions at once, in parts of random size, with readers that are sometimes
/// slow.
TEST_P(RelayRecordTest, LosesNoByteAcrossManyRestores) {
  const std::string text = random_text(4'000'000);
  std::array<std::size_t, 2> sent{};
  std::array<Received, 2> got;
  const std::array ends{&rig.client, &rig.target};
  std::mt19937 random(7);
  std::array<std::optional<RelayContext>, 2> contexts;
  for (int round = 0; got[0].text.size() + got[1].text.size() < 2 * text.size(); ++round) {
    for (std::size_t i : {0U, 1U}) {
      const std::size_t part = std::min<std::size_t>(random() % 200'000, text.size() - sent[i]);
      const ssize_t n = ::send(ends[i]->get(), &text[sent[i]], part, MSG_NOSIGNAL);
      sent[i] += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
      if (random() % 4 != 0) read_available(*ends[1 - i], got[i]);
    }
    ASSERT_TRUE(rig.loop.turn(round % 8 == 0 ? 1ms : 0ms));
    if (random() % 5 != 0) continue;
    RelayRecord record = *rig.relay->save();
    rig.relay.reset();
    auto& next = contexts[static_cast<std::size_t>(round) % 2];
    next.reset();
    next.emplace(rig.loop);
    rig.relay = std::make_unique<Relay>(*next, rig.group, std::move(record));
    ASSERT_TRUE(rig.relay->resume());
  }
  EXPECT_TRUE(got[0].text == text);
  EXPECT_TRUE(got[1].text == text);
  rig.relay.reset();  // before its context
}

// ---- one TCP port -------------------------------------------------------------------------------

struct PortRecordTest : testing::Test {
  /// Replaces the port by a successor with a loop and services of its own, as in another process.
  void hand_over() {
    PortRecord record = rig->port->save();
    auto next = std::make_unique<ForwardRig>();
    next->target = std::move(rig->target);
    rig = std::move(next);
    rig->port->restore(std::move(record));
  }

  std::unique_ptr<ForwardRig> rig = std::make_unique<ForwardRig>();
};

TEST_F(PortRecordTest, KeepsConnectionsAndCounters) {
  rig->start();
  auto [one, one_inside] = rig->connect_through(kBoth[0]);
  auto [two, two_inside] = rig->connect_through(kBoth[1]);
  write_all(one, "1");
  EXPECT_EQ(rig->receive(one_inside, 1).text, "1");
  hand_over();
  ASSERT_TRUE(rig->serve());
  EXPECT_EQ(rig->port->counters(), (Counters{.active = 2, .total = 2, .bytes_in = 1}));
  write_all(two_inside, "to two");
  EXPECT_EQ(rig->receive(two, 6).text, "to two");
  write_all(one, "22");
  EXPECT_EQ(rig->receive(one_inside, 2).text, "22");
  auto [three, three_inside] = rig->connect_through(kBoth[1]);
  EXPECT_EQ(rig->port->counters().total, 3U);
}

/// The clients wait in the kernel's queue.
TEST_F(PortRecordTest, ServesClientsThatConnectBetweenSaveAndRestore) {
  rig->start();
  PortRecord record = rig->port->save();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 12; ++i) clients.push_back(connect_to_port(kBoth[i % 2 == 0 ? 0 : 1]));
  ForwardRig next;
  next.port->restore(std::move(record));
  ASSERT_TRUE(next.serve());
  EXPECT_TRUE(next.until([&] { return next.port->counters().active == clients.size(); }));
}

TEST_F(PortRecordTest, KeepsTheDeadlineOfAHeldClient) {
  ASSERT_TRUE(rig->bind() && rig->hold());
  const UniqueFd client = connect_to_port(kBoth[0]);
  ASSERT_TRUE(rig->until([&] { return rig->port->waiting() == 1; }));
  PortRecord record = rig->port->save();
  ASSERT_EQ(record.clients.size(), 1U);
  ASSERT_TRUE(record.clients[0].held_until);
  const TimePoint deadline = *record.clients[0].held_until;

  ForwardRig next;
  next.port->restore(std::move(record));
  ASSERT_TRUE(next.hold());
  record = next.port->save();
  EXPECT_EQ(record.clients.at(0).held_until, deadline);

  ForwardRig last;
  last.port->restore(std::move(record));
  ASSERT_TRUE(last.serve());
  const UniqueFd inside = last.accept_inside();
  write_all(client, "at last");
  EXPECT_EQ(last.receive(inside, 7).text, "at last");
}

TEST_F(PortRecordTest, DialsAgainForAClientWithADialUnderWay) {
  rig->start();
  rig->sockets.run_dry();
  const UniqueFd client = connect_to_port(kBoth[0]);
  ASSERT_TRUE(rig->until([&] { return rig->port->waiting() == 1; }));
  hand_over();
  ASSERT_TRUE(rig->serve());
  const UniqueFd inside = rig->accept_inside();
  write_all(client, "hello");
  EXPECT_EQ(rig->receive(inside, 5).text, "hello");
}

TEST_F(PortRecordTest, KeepsRefusing) {
  ForwardRig refusing({.hold = 0s, .name = "test"});
  ASSERT_TRUE(refusing.bind() && refusing.hold());
  PortRecord record = refusing.port->save();
  for (const Endpoint& to : kBoth) EXPECT_EQ(connect_outcome(to), ECONNREFUSED);
  ForwardRig next({.hold = 0s, .name = "test"});
  next.port->restore(std::move(record));
  ASSERT_TRUE(next.hold());
  for (const Endpoint& to : kBoth) EXPECT_EQ(connect_outcome(to), ECONNREFUSED);
  ASSERT_TRUE(next.serve());
  const auto [client, inside] = next.connect_through();
}

TEST_F(PortRecordTest, KeepsDraining) {
  rig->start();
  auto [client, inside] = rig->connect_through();
  rig->port->drain(1h);
  hand_over();
  rig->port->drain(1h);
  write_all(client, "still");
  EXPECT_EQ(rig->receive(inside, 5).text, "still");
  client.reset();
  inside.reset();
  EXPECT_TRUE(rig->until([&] { return rig->drained == 1; }));
}

TEST_F(PortRecordTest, ReleasesThePortWhenTheRecordIsDestroyed) {
  rig->start();
  auto [client, inside] = rig->connect_through();
  { const PortRecord record = rig->port->save(); }
  EXPECT_EQ(rig->ending_of(client), Ending::Reset);
  ForwardRig other;
  EXPECT_TRUE(other.bind());
}

// ---- one UDP port -------------------------------------------------------------------------------

struct DatagramRecordTest : testing::Test {
  void hand_over() {
    PortRecord record = rig->port->save();
    auto next = std::make_unique<DatagramRig>();
    next->target = std::move(rig->target);
    rig = std::move(next);
    rig->port->restore(std::move(record));
  }

  std::unique_ptr<DatagramRig> rig = std::make_unique<DatagramRig>();
};

TEST_F(DatagramRecordTest, KeepsTheInnerPortOfFlowsAndQueuedDatagrams) {
  rig->start();
  const UniqueFd one = datagrams_to(kUdpEndpoints[0]);
  const UniqueFd two = datagrams_to(kUdpEndpoints[1]);
  const Endpoint first = rig->ask(one, "1").from;
  const Endpoint second = rig->ask(two, "2").from;
  PortRecord record = rig->port->save();
  ASSERT_EQ(send_one(one, "question"), 0);
  ASSERT_EQ(send_one_to(rig->target, "answer", second), 0);
  DatagramRig next;
  next.target = std::move(rig->target);
  next.port->restore(std::move(record));
  next.serve();
  EXPECT_EQ(next.counters().active, 2U);
  const OneDatagram asked = next.take(next.target);
  EXPECT_EQ(asked.text, "question");
  EXPECT_EQ(asked.from, first);
  EXPECT_EQ(next.take(two).text, "answer");
}

TEST_F(DatagramRecordTest, KeepsDatagramsOfAnUnconnectedFlow) {
  rig->start();
  rig->sockets.run_dry();
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  ASSERT_EQ(send_one(client, "one"), 0);
  ASSERT_EQ(send_one(client, "two"), 0);
  ASSERT_TRUE(rig->until([&] { return rig->counters().active == 1; }));
  hand_over();
  rig->serve();
  EXPECT_EQ(rig->take(rig->target).text, "one");
  EXPECT_EQ(rig->take(rig->target).text, "two");
}

TEST_F(DatagramRecordTest, KeepsRefusing) {
  ASSERT_TRUE(rig->port->bind(addresses(kUdpEndpoints)));
  PortRecord record = rig->port->save();
  EXPECT_TRUE(record.refusing);
  DatagramRig next({.hold = 0s, .name = "test"});
  next.port->restore(std::move(record));
  const UniqueFd client = datagrams_to(kUdpEndpoints[0]);
  EXPECT_TRUE(next.is_refused(client));
  ASSERT_TRUE(next.port->hold());
  EXPECT_TRUE(next.is_refused(client));
}

/// The same flow is evicted as without a restart.
TEST_F(DatagramRecordTest, KeepsTheLruOrderOfFlows) {
  rig->start();
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 5; ++i) {
    clients.push_back(datagrams_to(kUdpEndpoints[0]));
    (void)rig->ask(clients.back(), "x");
    rig->clock.advance(1s);
  }
  PortRecord record = rig->port->save();
  ASSERT_EQ(record.flows.size(), 5U);
  std::ranges::reverse(record.flows);
  DatagramRig next({.max_connections = 5, .name = "test"});
  next.target = std::move(rig->target);
  next.port->restore(std::move(record));
  next.serve();
  const UniqueFd sixth = datagrams_to(kUdpEndpoints[0]);
  (void)next.ask(sixth, "x");
  record = next.port->save();
  EXPECT_THAT(record.flows,
              testing::Each(testing::Field(&FlowRecord::client,
                                           testing::Ne(*local_endpoint(clients[0].get())))));
}

}  // namespace
}  // namespace portfwd
