// Which listeners are forwarded, to which host port, and what the event log remembers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "forward/allocation.h"
#include "forward/event_log.h"
#include "forward/policy.h"

namespace portfwd {
namespace {

using testing::ElementsAre;

Listener listener(Port port, IpAddress address = IpAddress::loopback(Family::V4)) {
  Listener l;
  l.local = {address, port};
  return l;
}

Decision decide_one(const Settings& settings, const Listener& l) {
  return decide(settings, std::span(&l, 1));
}

TEST(Policy, ForwardsByDefaultAndSaysWhyNot) {
  Settings settings;
  EXPECT_TRUE(decide_one(settings, listener(8080)).forward);
  EXPECT_EQ(decide_one(settings, listener(22)).because, "[ports] exclude names port 22");
  settings.ports.include = {{5000, 6000}};
  EXPECT_EQ(decide_one(settings, listener(8080)).because,
            "[ports] include does not name port 8080");
  EXPECT_TRUE(decide_one(settings, listener(6000)).forward);
}

TEST(Policy, AnIgnoredAddressCountsOnlyWhileTheListenerHasNoOther) {
  const Settings settings;
  const std::vector both{listener(53000, IpAddress::v4(127, 0, 0, 11)), listener(53000)};
  EXPECT_FALSE(decide(settings, std::span(both).first(1)).forward);
  EXPECT_TRUE(decide(settings, both).forward);
  EXPECT_THAT(dialable(settings, both), ElementsAre(both[1]));
}

std::vector<Port> first_ports(HostPortPlan plan, std::size_t n) {
  std::vector<Port> out;
  while (out.size() < n) {
    const auto port = plan.next();
    if (!port) break;
    out.push_back(*port);
  }
  return out;
}

TEST(Allocation, TriesTheSameNumberThenTheFallbackRange) {
  const Settings settings;
  EXPECT_THAT(first_ports({settings, {8080, {}, 1024}}, 3), ElementsAre(8080, 20000, 20001));
}

TEST(Allocation, APrivilegedPortMovesBy8000UnlessTheHostAllowsIt) {
  const Settings settings;
  EXPECT_THAT(first_ports({settings, {80, {}, 1024}}, 2), ElementsAre(8080, 20000));
  EXPECT_THAT(first_ports({settings, {80, {}, 0}}, 1), ElementsAre(80));
}

TEST(Allocation, WhatItHadBeforeComesFirstAndOnce) {
  const Settings settings;
  EXPECT_THAT(first_ports({settings, {8080, Port{20001}, 1024}}, 4),
              ElementsAre(20001, 8080, 20000, 20002));
  EXPECT_THAT(first_ports({settings, {8080, Port{8080}, 1024}}, 2), ElementsAre(8080, 20000));
}

TEST(Allocation, LeavesTheAvoidedPortsAndEndsWithTheRange) {
  Settings settings;
  settings.host.avoid = {{8080, 8080}, {65534, 65534}};
  settings.host.fallback_range = {65533, 65535};
  EXPECT_THAT(first_ports({settings, {8080, {}, 1024}}, 9), ElementsAre(65533, 65535));
}

TEST(EventLog, NumbersWithoutGapsAndGivesWhatCameAfter) {
  EventLog log;
  for (int i = 0; i < 3; ++i) log.append({});
  const auto after = log.after(1);
  ASSERT_EQ(after.size(), 2U);
  EXPECT_EQ(after[0].seq, 2U);
  EXPECT_TRUE(log.after(3).empty());
}

TEST(EventLog, SaysWhatItForgot) {
  EventLog log;
  for (std::size_t i = 0; i < EventLog::kKept + 5; ++i) log.append({});
  const auto all = log.after(0);
  ASSERT_EQ(all.size(), EventLog::kKept + 1);
  EXPECT_EQ(all.front().type, Event::Type::Gap);
  EXPECT_EQ(all.front().seq, 5U);
  EXPECT_EQ(all[1].seq, 6U);
  EXPECT_EQ(log.after(5).front().type, Event::Type::PortAdded) << "nothing is missing after 5";
}

}  // namespace
}  // namespace portfwd
