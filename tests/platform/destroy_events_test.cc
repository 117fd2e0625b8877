// The kernel's events for closed sockets: which sockets, when, and which ones pass the filter.
#include "kernel/destroy_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include "kernel/sock_diag.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr IpAddress kLoopback4 = IpAddress::loopback(Family::V4);
constexpr IpAddress kLoopback6 = IpAddress::loopback(Family::V6);

struct DestroyFacts : testing::Test {
  static bool wait(const DestroyEvents& on, int limit_ms = 10'000) {
    pollfd ready{on.fd(), POLLIN, 0};
    return ::poll(&ready, 1, limit_ms) == 1;
  }
  /// At least `count` events, and all before that of the marker. A kernel worker sends them, almost
  /// in order.
  std::vector<std::uint64_t> events_until_marker(std::size_t count) {
    UniqueFd marker = ns.listen({kLoopback4, kMarker});
    const auto last = close(marker);
    std::vector<std::uint64_t> all;
    bool marked = false;
    while ((!marked || all.size() < count) && wait(events)) {
      for (const auto cookie : events.drain().cookies) {
        if (cookie == last) marked = true;
        if (cookie != last) all.push_back(cookie);
      }
    }
    EXPECT_TRUE(marked) << "no event for the marker";
    return all;
  }
  /// Closes a listener and waits until another netlink socket has received the event.
  void witness_marker() {
    DestroyEvents witness(ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
    ASSERT_TRUE(witness.filter(std::vector<Port>{kMarker}));
    ASSERT_TRUE(witness.join());
    UniqueFd marker = ns.listen({kLoopback4, kMarker});
    marker.reset();
    ASSERT_TRUE(wait(witness));
  }
  void join_for(std::vector<Port> ports) {
    ports.push_back(kMarker);
    ASSERT_TRUE(events.filter(ports));
    ASSERT_TRUE(events.join());
  }
  /// Closes a listener. @return its cookie
  static std::uint64_t close(UniqueFd& fd) {
    const auto cookie = *socket_cookie(fd.get());
    fd.reset();
    return cookie;
  }

  static constexpr Port kMarker = 19999;
  TestNetns ns;
  DestroyEvents events{ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)};
};

TEST_F(DestroyFacts, TheLastCloseOfAListenerIsReportedByCookie) {
  UniqueFd v4 = ns.listen({kLoopback4, 20001});
  UniqueFd v6 = ns.listen({kLoopback6, 20002});
  join_for({20001, 20002});
  const auto first = close(v4);
  const auto second = close(v6);
  EXPECT_THAT(events_until_marker(2), UnorderedElementsAre(first, second));
}

TEST_F(DestroyFacts, AnUnboundSocketReceivesNothing) {
  const UniqueFd deaf = ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
  const int group = SKNLGRP_INET_TCP_DESTROY;
  ASSERT_EQ(::setsockopt(deaf.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group), 0);
  join_for({20001});
  UniqueFd listener = ns.listen({kLoopback4, 20001});
  listener.reset();
  EXPECT_THAT(events_until_marker(1), SizeIs(1));
  pollfd ready{deaf.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 0), 0);
}

TEST_F(DestroyFacts, NothingIsReportedAfterShutdownNorWhileADuplicateIsOpen) {
  const UniqueFd shut = ns.listen({kLoopback4, 20001});
  UniqueFd held = ns.listen({kLoopback4, 20002});
  const UniqueFd duplicate(::dup(held.get()));
  join_for({20001, 20002});
  ::shutdown(shut.get(), SHUT_RDWR);
  held.reset();
  EXPECT_THAT(events_until_marker(0), IsEmpty());
}

TEST_F(DestroyFacts, TheFilterDropsOtherPortsAndConnections) {
  UniqueFd other = ns.listen({kLoopback4, 20003});
  const UniqueFd listener = ns.listen({kLoopback4, 20001});
  join_for({20001});
  UniqueFd client = ns.socket(AF_INET, SOCK_STREAM);
  connect_to(client, {kLoopback4, 20001});
  UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(accepted.valid());
  client.reset();
  accepted.reset();
  other.reset();
  EXPECT_THAT(events_until_marker(0), IsEmpty());
}

TEST_F(DestroyFacts, TheLongestFilterIsAcceptedAndItsLastPortPasses) {
  std::vector<Port> ports;
  for (std::size_t i = 0; i + 1 < kMaxFilteredPorts; ++i) {
    ports.push_back(static_cast<Port>(30000 + i));
  }
  UniqueFd first = ns.listen({kLoopback4, 30000});
  UniqueFd other = ns.listen({kLoopback4, 29999});
  join_for(ports);
  const auto cookie = close(first);
  other.reset();
  EXPECT_THAT(events_until_marker(1), ElementsAre(cookie));
}

TEST_F(DestroyFacts, WithMorePortsThanTheFilterHoldsEveryListenerPasses) {
  std::vector<Port> ports;
  for (std::size_t i = 0; i < kMaxFilteredPorts + 1; ++i) {
    ports.push_back(static_cast<Port>(30000 + i));
  }
  UniqueFd unlisted = ns.listen({kLoopback4, 20003});
  join_for(ports);
  const auto cookie = close(unlisted);
  EXPECT_THAT(events_until_marker(1), ElementsAre(cookie));
}

TEST_F(DestroyFacts, AFilterMayBeReplacedWhileJoined) {
  join_for({20001});
  join_for({20002});
  UniqueFd first = ns.listen({kLoopback4, 20001});
  UniqueFd second = ns.listen({kLoopback4, 20002});
  first.reset();
  const auto cookie = close(second);
  EXPECT_THAT(events_until_marker(1), ElementsAre(cookie));
}

TEST_F(DestroyFacts, NoEventsAfterLeavingTheGroup) {
  join_for({20001});
  events.leave();
  UniqueFd unseen = ns.listen({kLoopback4, 20001});
  unseen.reset();
  witness_marker();
  EXPECT_THAT(events.drain().cookies, IsEmpty());
}

TEST_F(DestroyFacts, TheFilterPassesASampleOfAllCloses) {
  join_for({});
  std::uint64_t closes = 0;
  for (int i = 0; i < 1000 && closes < 2 * kSampled; ++i) {
    ns.churn(SOCK_STREAM, 100);
    pollfd told{events.fd(), POLLIN, 0};  // a kernel worker sends the events, perhaps late
    (void)::poll(&told, 1, 100);
    for (auto batch = events.drain(); batch.closes > 0; batch = events.drain()) {
      EXPECT_THAT(batch.cookies, IsEmpty());
      closes += batch.closes;
    }
  }
  EXPECT_GE(closes, 2 * kSampled);
}

TEST_F(DestroyFacts, AnOverflowIsReportedAndLaterEventsAreReceived) {
  const int tiny = 1;
  ::setsockopt(events.fd(), SOL_SOCKET, SO_RCVBUF, &tiny, sizeof tiny);
  join_for({20001});
  for (int i = 0; i < 200; ++i) UniqueFd gone = ns.listen({kLoopback4, 20001});
  witness_marker();
  EXPECT_TRUE(events.drain().lost);
  while (events.drain().more) {
  }
  // The rest of the 200 events may still follow and overflow the queue again. Until the queue was
  // empty once, that causes no second error. Close listeners until one event is received.
  bool heard = false;
  std::vector<std::uint64_t> closed;
  for (int i = 0; i < 200 && !heard; ++i) {
    UniqueFd one = ns.listen({kLoopback4, 20001});
    closed.push_back(close(one));
    if (!wait(events, 100)) continue;
    const auto batch = events.drain();
    heard = std::ranges::find_first_of(closed, batch.cookies) != closed.end();
  }
  EXPECT_TRUE(heard);
}

}  // namespace
}  // namespace portfwd
