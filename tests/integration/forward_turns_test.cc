// Turns of the forward table: handlers only mark, the work is done once per turn, and no collection
// is changed while it is iterated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/forward_table_fixture.h"
#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;
using testing::IsEmpty;

struct ForwardTurns : ForwardTableTest {
  const std::map<std::string, std::string> ignores_db{
      {"devcontainer.metadata",
       R"({"portsAttributes": {"db:18085": {"onAutoForward": "ignore"}}})"}};

  /// A service of the compose project "shop".
  TestAccess& service(const std::string& name, std::map<std::string, std::string> labels = {}) {
    TestAccess& reach = unseen(name);
    reach.set_service("shop", name);
    reach.set_labels(std::move(labels));
    return reach;
  }
};

TEST_F(ForwardTurns, HandlersOnlyMark) {
  TestAccess& web = container("web");
  web.set_ports({8080});
  table->on_listeners(web);
  EXPECT_EQ(table->forwards().size(), 0U);
  turn_until([&] { return table->forwards().size() == 1; });
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1"));
}

TEST_F(ForwardTurns, ListenersThatCameAndWentInOneTurnMakeNoForward) {
  TestAccess& web = container("web");
  web.set_ports({8080});
  table->on_listeners(web);
  web.set_ports({});
  table->on_listeners(web);
  table->reconcile_dirty();
  EXPECT_THAT(told.take(), IsEmpty());
}

TEST_F(ForwardTurns, AppliesMetadataOfAnotherServiceAtOnce) {
  TestAccess& db = service("db");
  added(db);
  show(db, {18085});
  EXPECT_EQ(table->forwards().size(), 1U);
  TestAccess& app = service("app", ignores_db);
  added(app);
  EXPECT_THAT(table->forwards().infos(), IsEmpty());
  app.set_labels({{"devcontainer.metadata", "{}"}});
  changed(app);
  EXPECT_EQ(table->forwards().size(), 1U);
}

TEST_F(ForwardTurns, AppliesMetadataOfAServiceThatJoinsTheProject) {
  TestAccess& db = service("db");
  added(db);
  show(db, {18085});
  TestAccess& app = service("app", ignores_db);
  app.set_service("other", "app");
  added(app);
  EXPECT_EQ(table->forwards().size(), 1U);
  app.set_service("shop", "app");
  app.set_labels({{"devcontainer.metadata", ignores_db.at("devcontainer.metadata") + " "}});
  changed(app);
  EXPECT_THAT(table->forwards().infos(), IsEmpty());
}

TEST_F(ForwardTurns, DropsAConflictThatIsNoLongerWanted) {
  Rule rule;
  rule.ports = {{18085, 18085}};
  rule.require_host_port = true;
  settings.rules = {rule};
  table->apply_settings();
  UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 18085});
  TestAccess& db = service("db");
  added(db);
  show(db, {18085});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  TestAccess& app = service("app", ignores_db);
  table->on_access_added(app);
  taken.reset();
  turn_until([&] { return table->forwards().size() == 0; });
  EXPECT_THAT(told.take(), IsEmpty()) << "it never had a port";
}

/// The settings no longer want the forward in the turn in which its retry is due.
TEST_F(ForwardTurns, RetriesNoConflictThatTheSameTurnWithdraws) {
  settings.host.fallback_range = {20000, 20000};
  table->apply_settings();
  UniqueFd first = listen_on({IpAddress::loopback(Family::V4), 8080});
  const UniqueFd second = listen_on({IpAddress::loopback(Family::V4), 20000});
  TestAccess& web = container("web");
  show(web, {8080});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  first.reset();
  web.set_ports({});
  table->on_listeners(web);
  settings.ports.exclude = {{8080, 8080}};
  table->apply_settings();  // retries the conflicts as well
  EXPECT_EQ(table->forwards().size(), 0U);
}

TEST_F(ForwardTurns, SettingsThatAreAppliedAgainRetryConflicts) {
  settings.host.fallback_range = {20000, 20000};
  table->apply_settings();
  UniqueFd first = listen_on({IpAddress::loopback(Family::V4), 8080});
  const UniqueFd second = listen_on({IpAddress::loopback(Family::V4), 20000});
  show(container("web"), {8080});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  first.reset();
  table->apply_settings();
  turn_until([&] { return only().state == ForwardState::Active; });
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1"));
}

/// Many containers with many ports: sandboxes count towards the limit of the container that they
/// are in, and the work is spread over turns.
struct ForwardCrowd : ForwardTableTest {
  explicit ForwardCrowd(const Clock& clock = TestRelay::system_clock()) : ForwardTableTest(clock) {
    settings.host.fallback_range = {20000, 29999};
    table->apply_settings();
  }
  std::vector<Port> ports(Port first, std::size_t count) {
    std::vector<Port> out(count);
    std::ranges::generate(out, [first]() mutable { return first++; });
    return out;
  }
  /// A sandbox without an engine, in the cgroup of `outer`.
  TestAccess& inside(const TestAccess& outer, const std::string& name) {
    TestAccess& reach = unseen(name);
    reach.set_cgroup(outer.container().cgroup, 0);
    return reach;
  }
  TestAccess& of_engine(const std::string& name) {
    TestAccess& reach = unseen(name);
    reach.set_engine_id(name + "-id");
    reach.set_cgroup("/cg/" + name, 0);
    return reach;
  }
};

struct WithManualClock {
  ManualClock manual_clock;
};

/// A turn ends at its limit of host ports to try, however slow the machine is, since the clock does
/// not advance.
struct ForwardCrowdInNoTime : WithManualClock, ForwardCrowd {
  ForwardCrowdInNoTime() : ForwardCrowd(manual_clock) {}
};

TEST_F(ForwardCrowd, CountsSandboxesWithTheContainerThatTheyAreIn) {
  settings.host.max_forwards = 3;
  table->apply_settings();
  TestAccess& web = of_engine("web");
  added(web);
  TestAccess& first = inside(web, "first");
  TestAccess& second = inside(web, "second");
  TestAccess& other = of_engine("other");
  for (TestAccess* reach : {&first, &second, &other}) added(*reach);
  show(first, {9000, 9001});
  show(second, {9010, 9011});
  show(other, {9020, 9021, 9022});
  EXPECT_THAT(told.take(), ElementsAre("+first:9000@9000 0/2", "+first:9001@9001 1/2", "!second 3",
                                       "+second:9010@9010 0/1", "+other:9020@9020 0/3",
                                       "+other:9021@9021 1/3", "+other:9022@9022 2/3"));
  show(web, {9030});
  EXPECT_THAT(told.take(), IsEmpty()) << "it was told once";
  EXPECT_EQ(table->seen(web.container(), {Protocol::Tcp, 9030}).automatic, 3U);
  show(first, {});
  turn_until(
      [&] { return table->forwards().size() == 6; });  // lingers 20 ms; then the next follows
  turn_until([&] { return !told.ports.empty() && told.ports.back().starts_with("+"); });
}

TEST_F(ForwardCrowdInNoTime, TriesSoManyHostPortsInATurnAndNoMore) {
  settings.host.max_forwards = 1000;
  table->apply_settings();
  TestAccess& web = container("web");
  web.set_ports(ports(10000, 250));
  table->on_listeners(web);
  for (const std::size_t by_then : {100U, 200U, 250U}) {
    table->reconcile_dirty();
    EXPECT_EQ(table->forwards().size(), by_then);
  }
  EXPECT_EQ(told.take().back(), "+web:10249@10249 249/250");
}

/// However many turns their creation takes.
TEST_F(ForwardCrowd, TellsTheNewPortsOfAContainerTogether) {
  TestAccess& web = container("web");
  TestAccess& api = container("api");
  web.set_ports(ports(10000, 60));
  api.set_ports(ports(11000, 60));
  table->on_listeners(web);
  table->on_listeners(api);
  reconcile();
  EXPECT_EQ(table->forwards().size(), 120U);
  const std::vector<std::string> all = told.take();
  ASSERT_EQ(all.size(), 120U);
  EXPECT_EQ(std::ranges::count(all, "+api:11059@11059 59/60"), 1);
  EXPECT_EQ(std::ranges::count(all, "+web:10059@10059 59/60"), 1);
}

/// When the daemon itself has all ports, no system call is made, and the ports that were tried are
/// remembered.
TEST_F(ForwardCrowd, KeepsAConflictAcrossALookWhenItsPortsAreOurOwn) {
  settings.host.fallback_range = {20000, 20000};
  table->apply_settings();
  show(container("web"), {8080});
  show(container("api"), {8080});
  TestAccess& late = container("late");
  show(late, {8080});
  const auto forward_ids = [&] {
    std::vector<std::string> all;
    for (const ForwardInfo& info : table->forwards().infos()) all.push_back(info.id);
    return all;
  };
  const std::vector<std::string> before = forward_ids();
  ASSERT_EQ(before.size(), 3U);
  show(late, {8080});
  EXPECT_EQ(forward_ids(), before);
}

/// Each of 50 containers has the same 64 ports: all but the first get ports of the fall-back range,
/// where ports that are taken are not tried again and again.
TEST_F(ForwardCrowdInNoTime, FindsAFreePortWithoutTryingTheTakenOnesAgain) {
  for (int i = 0; i < 50; ++i) {
    TestAccess& reach = unseen("box" + std::to_string(i));
    reach.set_ports(ports(9000, 64));
    table->on_access_added(reach);
  }
  unsigned turns = 0;
  while (table->busy()) {
    table->reconcile_dirty();
    ++turns;
  }
  EXPECT_EQ(table->forwards().size(), 50U * 64);
  EXPECT_LE(turns, 120U) << "one container a turn, and not one port";
}

TEST_F(ForwardCrowd, SearchesALongRangeInSeveralTurns) {
  std::vector<UniqueFd> taken;
  for (const Port port : ports(20000, 250)) {
    taken.push_back(listen_on({IpAddress::loopback(Family::V4), port}));
  }
  taken.push_back(listen_on({IpAddress::loopback(Family::V4), 8080}));
  TestAccess& web = container("web");
  web.set_ports({8080});
  table->on_listeners(web);
  table->reconcile_dirty();
  EXPECT_EQ(only().state, ForwardState::Conflict);
  turn_until([&] { return only().state == ForwardState::Active; });
  EXPECT_EQ(only().host_port, 20250);
  EXPECT_EQ(only().reason, "port 8080 is held by python3 (pid 42)");
}

TEST_F(ForwardCrowd, APortThatAForwardGaveUpIsTheNextToBeGiven) {
  const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 8080});
  TestAccess& web = container("web");
  TestAccess& api = container("api");
  show(web, {8080});
  show(api, {8080});
  removed(web, RemovalReason::Gone);
  show(container("db"), {8080});
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@20000 0/1", "+api:8080@20001 0/1",
                                       "-web:8080 container-gone", "+db:8080@20000 0/1"));
}

}  // namespace
}  // namespace portfwd
