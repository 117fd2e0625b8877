// Effects of rules on forwards, on real host ports.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/forward_table_fixture.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(ForwardTableTest, ARuleGivesHostPortsByOffsetAndTheSecondComerTheFallback) {
  Rule rule;
  rule.ports = {{5000, 5010}};
  rule.host_port = 15000;
  rule.label = "the database";
  rule.scheme = "https";
  settings.rules = {rule};
  apply_settings();
  show(container("web"), {5003});
  show(container("api"), {5003});
  EXPECT_THAT(told.take(), ElementsAre("+web:5003@15003 0/1", "+api:5003@20000 0/1"));
  const auto infos = table->forwards().infos();
  EXPECT_THAT(infos[0].reason, HasSubstr("port 15003 is held by container web"));
  EXPECT_EQ(infos[1].reason, "") << "it is where it was asked for";
  EXPECT_EQ(infos[1].label, "the database");
  EXPECT_EQ(infos[1].url, "https://127.0.0.1:15003/");
}

TEST_F(ForwardTableTest, ARequiredHostPortThatIsTakenIsAConflictUntilItIsFree) {
  Rule rule;
  rule.ports = {{8080, 8080}};
  rule.host_port = 15000;
  rule.require_host_port = true;
  settings.rules = {rule};
  apply_settings();
  auto other = listen_on({IpAddress::loopback(Family::V4), 15000});
  show(container("web"), {8080});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  EXPECT_EQ(only().reason, "port 15000 is held by python3 (pid 42)");
  other.reset();
  turn_until([&] { return only().state == ForwardState::Active; });
  EXPECT_EQ(only().host_port, 15000);
}

/// This process may bind privileged ports in its namespace.
TEST_F(ForwardTableTest, ARequiredHostPortIsThePortsOwnNumberOrAConflict) {
  Rule rule;
  rule.ports = {{1, 65535}};
  rule.require_host_port = true;
  settings.rules = {rule};
  settings.host.avoid = {{8080, 8080}};
  apply_settings();
  show(container("web"), {80, 8080});
  const auto infos = table->forwards().infos();
  ASSERT_EQ(infos.size(), 2U);
  EXPECT_EQ(infos[0].host_port, 80);
  EXPECT_EQ(infos[1].state, ForwardState::Conflict);
  EXPECT_THAT(infos[1].reason, HasSubstr("avoid"));
}

TEST_F(ForwardTableTest, AReloadThatMovesAForwardReplacesItAndLeavesTheOthers) {
  show(container("web"), {8080, 9090});
  const std::string stays = table->forwards().infos().back().id;
  told.take();
  Rule rule;
  rule.ports = {{8080, 8080}};
  rule.host_port = 15000;
  settings.rules = {rule};
  apply_settings();
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 replaced", "+web:8080@15000 0/1"));
  settings.rules[0].label = "renamed";
  apply_settings();
  EXPECT_THAT(told.take(), IsEmpty()) << "a label is no reason to move";
  EXPECT_EQ(table->forwards().infos().front().label, "renamed");
  EXPECT_EQ(table->forwards().infos().back().id, stays);
}

TEST_F(ForwardTableTest, AListenerThatHasToSettleIsForwardedOnlyIfItLives) {
  Rule rule;
  rule.settle = 50ms;
  settings.rules = {rule};
  apply_settings();
  TestAccess& web = container("web");
  show(web, {8080, 9090});
  EXPECT_EQ(table->forwards().size(), 0U);
  show(web, {9090});
  turn_until([&] { return table->forwards().size() == 1; });
  EXPECT_EQ(only().container_port, 9090);
  show(web, {});
  show(web, {9090});
  EXPECT_EQ(only().state, ForwardState::Active) << "one that comes back settles no second time";
}

TEST_F(ForwardTableTest, AReloadReachesAForwardThatLingers) {
  settings.host.linger = 1min;
  apply_settings();
  TestAccess& web = container("web");
  show(web, {8080, 9090});
  show(web, {});
  told.take();
  settings.ports.exclude = {{9090, 9090}};
  settings.ports.on_auto_forward = "silent";
  apply_settings();
  EXPECT_THAT(told.take(), ElementsAre("-web:9090 rule"));
  EXPECT_EQ(only().state, ForwardState::Lingering);
  EXPECT_EQ(only().on_auto_forward, "silent");
}

TEST_F(ForwardTableTest, AReloadThatMovesAForwardThatLingersEndsIt) {
  settings.host.linger = 1min;
  apply_settings();
  TestAccess& web = container("web");
  show(web, {8080});
  show(web, {});
  told.take();
  settings.host.bind = Bind{IpAddress::v4(127, 0, 0, 9)};
  apply_settings();
  reconcile();
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 replaced"));
  EXPECT_EQ(table->forwards().size(), 0U) << "there is no listener that a new one would lead to";
}

TEST_F(ForwardTableTest, AHostPortThatIsToBeAvoidedIsForAPersonAlone) {
  settings.host.avoid = {{8080, 8080}};
  apply_settings();
  TestAccess& web = container("web");
  show(web, {8080});
  EXPECT_EQ(only().host_port, 20000);
  EXPECT_THAT(only().reason, HasSubstr("avoid"));
  ASSERT_TRUE(ask(&web, 8080, {.host_port = Port{8080}}));
  EXPECT_EQ(only().host_port, 8080);
}

/// One forward without a container, which no reconcile of a container covers, and one with a
/// container.
TEST_F(ForwardTableTest, AForwardForOtherMachinesLastsAsLongAsTheyAreAllowed) {
  settings.host.allow_remote = true;
  apply_settings();
  const ForwardSpec everywhere{.bind = "0.0.0.0", .allow_missing = true};
  ASSERT_TRUE(ask(nullptr, 8080, everywhere, "later"));
  ASSERT_TRUE(ask(&container("web"), 9090, everywhere));
  EXPECT_THAT(told.take(), ElementsAre("+later:8080@8080 0/1", "+web:9090@9090 0/1"));
  apply_settings();
  reconcile();
  EXPECT_THAT(told.take(), IsEmpty());
  settings.host.allow_remote = false;
  apply_settings();
  reconcile();
  EXPECT_THAT(told.take(), ElementsAre("-later:8080 replaced", "-web:9090 replaced"));
  EXPECT_EQ(table->forwards().size(), 2U);
  for (const ForwardInfo& forward : table->forwards().infos()) {
    EXPECT_EQ(forward.state, ForwardState::Conflict);
    EXPECT_EQ(forward.error, kRemoteForbidden);
  }
}

TEST_F(ForwardTableTest, ARuleMayBindAnotherLoopbackAddress) {
  Rule rule;
  rule.bind = Bind{IpAddress::v4(127, 0, 0, 9)};
  settings.rules = {rule};
  apply_settings();
  show(container("web"), {8080});
  EXPECT_THAT(only().host_addresses, ElementsAre("127.0.0.9"));
}

}  // namespace
}  // namespace portfwd
