// What the forward table does in turns of the loop: handlers only mark, the work is done once, and
// nothing is walked while it changes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/forward_table_fixture.h"

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
  TestReach& service(const std::string& name, std::map<std::string, std::string> labels = {}) {
    TestReach& reach = unseen(name);
    reach.set_service("shop", name);
    reach.set_labels(std::move(labels));
    return reach;
  }
};

TEST_F(ForwardTurns, HandlersOnlyMark) {
  TestReach& web = container("web");
  web.set_ports({8080});
  table->on_listeners(web);
  EXPECT_EQ(table->size(), 0U);
  turn_until([&] { return table->size() == 1; });
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1"));
}

TEST_F(ForwardTurns, ListenersThatCameAndWentInOneTurnMakeNoForward) {
  TestReach& web = container("web");
  web.set_ports({8080});
  table->on_listeners(web);
  web.set_ports({});
  table->on_listeners(web);
  table->reconcile_dirty();
  EXPECT_THAT(told.take(), IsEmpty());
}

TEST_F(ForwardTurns, AppliesMetadataOfAnotherServiceAtOnce) {
  TestReach& db = service("db");
  added(db);
  show(db, {18085});
  EXPECT_EQ(table->size(), 1U);
  TestReach& app = service("app", ignores_db);
  added(app);
  EXPECT_THAT(table->infos(), IsEmpty());
  app.set_labels({{"devcontainer.metadata", "{}"}});
  changed(app);
  EXPECT_EQ(table->size(), 1U);
}

TEST_F(ForwardTurns, AppliesMetadataOfAServiceThatJoinsTheProject) {
  TestReach& db = service("db");
  added(db);
  show(db, {18085});
  TestReach& app = service("app", ignores_db);
  app.set_service("other", "app");
  added(app);
  EXPECT_EQ(table->size(), 1U);
  app.set_service("shop", "app");
  app.set_labels({{"devcontainer.metadata", ignores_db.at("devcontainer.metadata") + " "}});
  changed(app);
  EXPECT_THAT(table->infos(), IsEmpty());
}

TEST_F(ForwardTurns, DropsAConflictThatIsNoLongerWanted) {
  Rule rule;
  rule.ports = {{18085, 18085}};
  rule.require_host_port = true;
  settings.rules = {rule};
  table->apply(settings);
  UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 18085});
  TestReach& db = service("db");
  added(db);
  show(db, {18085});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  TestReach& app = service("app", ignores_db);
  table->on_reach_added(app);
  taken.reset();
  turn_until([&] { return table->size() == 0; });
  EXPECT_THAT(told.take(), IsEmpty()) << "it never had a port";
}

/// The settings no longer want the forward in the very turn in which its retry is due.
TEST_F(ForwardTurns, RetriesNoConflictThatTheSameTurnWithdraws) {
  settings.host.fallback_range = {20000, 20000};
  table->apply(settings);
  UniqueFd first = listen_on({IpAddress::loopback(Family::V4), 8080});
  const UniqueFd second = listen_on({IpAddress::loopback(Family::V4), 20000});
  TestReach& web = container("web");
  show(web, {8080});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  first.reset();
  web.set_ports({});
  table->on_listeners(web);
  settings.ports.exclude = {{8080, 8080}};
  table->apply(settings);  // retries the conflicts, too
  EXPECT_EQ(table->size(), 0U);
}

TEST_F(ForwardTurns, SettingsThatAreAppliedAgainRetryConflicts) {
  settings.host.fallback_range = {20000, 20000};
  table->apply(settings);
  UniqueFd first = listen_on({IpAddress::loopback(Family::V4), 8080});
  const UniqueFd second = listen_on({IpAddress::loopback(Family::V4), 20000});
  show(container("web"), {8080});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  first.reset();
  table->apply(settings);
  EXPECT_EQ(only().state, ForwardState::Active);
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1"));
}

}  // namespace
}  // namespace portfwd
