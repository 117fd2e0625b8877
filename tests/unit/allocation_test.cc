// To which host port a listener is forwarded, and what the event log remembers.
#include "forward/allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "forward/event_log.h"

namespace portfwd {
namespace {

using testing::ElementsAre;

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
  EXPECT_THAT(first_ports({settings, {8080}}, 3), ElementsAre(8080, 20000, 20001));
}

TEST(Allocation, APrivilegedPortMovesBy8000UnlessTheHostAllowsIt) {
  const Settings settings;
  EXPECT_THAT(first_ports({settings, {80}}, 2), ElementsAre(8080, 20000));
  EXPECT_THAT(first_ports({settings, {.container_port = 80, .first_unprivileged = 0}}, 1),
              ElementsAre(80));
}

TEST(Allocation, WhatItHadBeforeComesFirstAndOnce) {
  const Settings settings;
  EXPECT_THAT(first_ports({settings, {8080, Port{20001}}}, 4),
              ElementsAre(20001, 8080, 20000, 20002));
  EXPECT_THAT(first_ports({settings, {8080, Port{8080}}}, 2), ElementsAre(8080, 20000));
}

TEST(Allocation, WhatWasAskedForComesFirstEvenIfAvoided) {
  Settings settings;
  settings.host.avoid = {{15432, 15432}};
  EXPECT_THAT(first_ports({settings, {5432, Port{20000}, Port{15432}}}, 4),
              ElementsAre(15432, 20000, 20001, 20002));
  EXPECT_THAT(first_ports({settings, {5432, Port{20000}, Port{15432}, true}}, 4),
              ElementsAre(15432));
  EXPECT_THAT(first_ports({settings, {5432, Port{20000}, {}, true}}, 4), ElementsAre(5432));
}

TEST(Allocation, LeavesTheAvoidedPortsAndEndsWithTheRange) {
  Settings settings;
  settings.host.avoid = {{8080, 8080}, {65534, 65534}};
  settings.host.fallback_range = {65533, 65535};
  EXPECT_THAT(first_ports({settings, {8080}}, 9), ElementsAre(65533, 65535));
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
