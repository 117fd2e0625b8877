// Choice of host ports, and the event log.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "forward/events.h"
#include "forward/host_ports.h"

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

TEST(Allocation, ARequiredPortIsItsOwnNumberOrNone) {
  Settings settings;
  settings.host.avoid = {{443, 443}};
  EXPECT_THAT(first_ports({settings, {.container_port = 80, .only_preferred = true}}, 4),
              ElementsAre(80));
  EXPECT_THAT(first_ports({settings, {.container_port = 443, .only_preferred = true}}, 4),
              testing::IsEmpty());
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

TEST(EventLog, ReportsRemovedEvents) {
  EventLog log;
  for (std::size_t i = 0; i < EventLog::kKept + 5; ++i) log.append({});
  const auto all = log.after(0);
  ASSERT_EQ(all.size(), EventLog::kKept + 1);
  EXPECT_EQ(all.front().type, Event::Type::Gap);
  EXPECT_EQ(all.front().seq, 5U);
  EXPECT_EQ(all[1].seq, 6U);
  EXPECT_EQ(log.after(5).front().type, Event::Type::PortAdded) << "nothing is missing after 5";
}

TEST(EventLog, ContinuesTheNumbersAcrossARestart) {
  EventLog log;
  log.resume(58, WallTime(std::chrono::seconds(3)));
  EXPECT_EQ(log.next(), 58U);
  EXPECT_TRUE(log.after(57).empty()) << "nothing is missing after 57";
  const auto before = log.after(40);
  ASSERT_EQ(before.size(), 1U);
  EXPECT_EQ(before[0].type, Event::Type::Gap);
  EXPECT_EQ(before[0].seq, 57U);
  EXPECT_EQ(before[0].time, WallTime(std::chrono::seconds(3)));
  EXPECT_EQ(log.append({}).seq, 58U);
  const auto all = log.after(0);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].seq, 57U);
  EXPECT_EQ(all[1].seq, 58U);
  ASSERT_EQ(log.after(57).size(), 1U);
  EXPECT_EQ(log.after(57)[0].type, Event::Type::PortAdded);
}

TEST(EventLog, GivesBackWhatItWasGiven) {
  ForwardInfo forward{.id = "f1",
                      .container_id = "c1",
                      .container_name = std::string(300, 'n'),
                      .container_engine = "podman",
                      .protocol = Protocol::Udp,
                      .direction = Direction::Reverse,
                      .target = "53/udp",
                      .container_address = "10.0.0.2",
                      .container_port = 53,
                      .host_addresses = {"127.0.0.1", "::1"},
                      .host_port = 5353,
                      .origin = Origin::Manual,
                      .state = ForwardState::Lingering,
                      .error = EMFILE,
                      .reason = "a reason",
                      .remapped = true,
                      .label = std::string("a\0b", 3),
                      .process = "dns",
                      .url = "http://127.0.0.1:5353/",
                      .on_auto_forward = "silent",
                      .since = WallTime(std::chrono::seconds(7)),
                      .counters = {1, 2, 3, 4, 5, 6}};
  ContainerInfo container;
  container.id = "c1";
  container.name = "web";
  container.uid = 1000;
  container.netns = 4026531840;
  container.image = "an image";
  container.reason = "another reason";
  container.ever_listened = true;
  EventLog log;
  log.append({.time = WallTime(std::chrono::seconds(9)),
              .type = Event::Type::PortRemoved,
              .reason = "unforwarded",
              .subject = forward,
              .batch_size = 3,
              .batch_index = 2});
  log.append({.type = Event::Type::ContainerRemoved, .subject = container});
  const auto all = log.after(0);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0].time, WallTime(std::chrono::seconds(9)));
  EXPECT_EQ(all[0].type, Event::Type::PortRemoved);
  EXPECT_EQ(all[0].reason, "unforwarded");
  EXPECT_EQ(all[0].batch_size, 3U);
  EXPECT_EQ(all[0].batch_index, 2U);
  EXPECT_EQ(std::get<ForwardInfo>(all[0].subject), forward);
  EXPECT_EQ(std::get<ContainerInfo>(all[1].subject), container);
  ASSERT_TRUE(log.last_removal("c1", {Protocol::Udp, 53}));
  EXPECT_EQ(std::get<ForwardInfo>(log.last_removal("", {Protocol::Udp, 53})->subject), forward);
  EXPECT_FALSE(log.last_removal("c1", {Protocol::Tcp, 53}));
  EXPECT_FALSE(log.last_removal("c2", {Protocol::Udp, 53}));
}

TEST(EventLog, KeepsTheLastThousandOfMany) {
  EventLog log;
  for (int i = 1; i <= 5000; ++i) {
    log.append(
        {.type = Event::Type::PortRemoved,
         .subject = ForwardInfo{
             .id = std::to_string(i), .target = std::to_string(i), .container_port = Port(i)}});
  }
  const auto all = log.after(4000);
  ASSERT_EQ(all.size(), EventLog::kKept);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].seq, 4001 + i);
    EXPECT_EQ(std::get<ForwardInfo>(all[i].subject).id, std::to_string(4001 + i));
  }
  EXPECT_EQ(log.last_removal("", {Protocol::Tcp, 4001})->seq, 4001U);
  EXPECT_FALSE(log.last_removal("", {Protocol::Tcp, 4000}));
}

}  // namespace
}  // namespace portfwd
