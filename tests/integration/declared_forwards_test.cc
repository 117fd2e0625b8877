// Forwards declared in the configuration, on real host ports: held from the start, and while their
// container is absent.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "support/forward_table_fixture.h"
#include "support/streams.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct DeclaredForwards : ForwardTableTest {
  void declare(std::vector<DeclaredForward> forwards) {
    settings.forwards = std::move(forwards);
    apply_settings();
  }
  static DeclaredForward web(Port host_port = 18080, std::string label = "") {
    return {{.container = "web",
             .target = {Protocol::Tcp, 8080},
             .host_port = host_port,
             .label = std::move(label)},
            false,
            {"c.toml", 3, 1}};
  }
};

TEST_F(DeclaredForwards, HoldTheirHostPortBeforeThereIsAContainer) {
  declare({web(18080, "the shop")});
  const ForwardInfo forward = only();
  EXPECT_EQ(forward.origin, Origin::Declared);
  EXPECT_EQ(forward.state, ForwardState::Waiting);
  EXPECT_EQ(forward.container_name, "web");
  EXPECT_EQ(forward.label, "the shop");
  EXPECT_EQ(forward.url, "http://127.0.0.1:18080/");
  EXPECT_EQ(table->requests().find(forward.id)->asked_by, "declared at c.toml:3");
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@18080 0/1"));
}

TEST_F(DeclaredForwards, AClientThatComesBeforeTheContainerIsServedWhenThatHasCome) {
  declare({web()});
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V4), 18080});
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), -1);
  turn_until([&] { return only().counters.total == 1; });
  const UniqueFd server = listen_on({kInside, 8080});
  show(container("web"), {8080});
  pollfd arrives{server.get(), POLLIN, 0};
  turn_until([&] { return ::poll(&arrives, 1, 0) == 1; });
  EXPECT_EQ(only().state, ForwardState::Active);
}

TEST_F(DeclaredForwards, StayAwayAfterTheUserEndedThemUntilTheSettingsAreReadAgain) {
  DeclaredForward other = web(19090);
  other.target = {Protocol::Tcp, 9090};
  declare({web(), other});
  ASSERT_TRUE(table->remove(table->forwards().infos().front().id));
  table->declare();  // as when metadata of a container changes
  reconcile();
  EXPECT_EQ(only().host_port, 19090);
  apply_settings();
  EXPECT_EQ(table->forwards().size(), 2U);
}

TEST_F(DeclaredForwards, StayWhileTheirContainerIsReplaced) {
  declare({web()});
  const std::string id = only().id;
  TestAccess& first = container("web");
  show(first, {8080});
  EXPECT_EQ(only().state, ForwardState::Active);
  removed(first, RemovalReason::Replaced);
  EXPECT_EQ(only().state, ForwardState::Waiting);
  TestAccess& second = container("web");
  show(second, {8080});
  EXPECT_EQ(only().state, ForwardState::Active);
  EXPECT_EQ(only().container_id, second.container().id);
  EXPECT_EQ(only().id, id);
  EXPECT_THAT(told.ports, ElementsAre("+web:8080@18080 0/1"));
}

TEST_F(DeclaredForwards, GoOverToAnotherContainerOfTheNameThatIsThereAlready) {
  TestAccess& first = container("web");
  TestAccess& second = container("web");
  declare({web()});
  show(first, {8080});
  show(second, {8080});
  told.take();
  removed(first, RemovalReason::Gone);
  EXPECT_EQ(only().container_id, second.container().id);
  EXPECT_EQ(only().state, ForwardState::Active);
  EXPECT_EQ(only().host_port, 18080);
}

TEST_F(DeclaredForwards, AReloadThatLeavesThemAloneChangesNothing) {
  declare({web()});
  told.take();
  const std::string id = only().id;
  declare({web(18080, "renamed")});
  EXPECT_THAT(told.take(), IsEmpty());
  EXPECT_EQ(only().id, id);
  EXPECT_EQ(only().label, "renamed");
  declare({web(18081)});
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 rule", "+web:8080@18081 0/1"));
  declare({});
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 rule"));
}

TEST_F(DeclaredForwards, TakeOverWhatWasDetectedAtTheSamePlace) {
  TestAccess& reach = container("web");
  show(reach, {8080});
  const std::string id = only().id;
  told.take();
  declare({web(8080)});
  EXPECT_EQ(only().id, id);
  EXPECT_EQ(only().origin, Origin::Declared);
  EXPECT_THAT(told.take(), IsEmpty());
  declare({});
  EXPECT_EQ(only().origin, Origin::Auto) << "it still listens";
}

TEST_F(DeclaredForwards, ATakenHostPortIsAConflictThatEndsWhenItIsFree) {
  auto other = listen_on({IpAddress::loopback(Family::V4), 18080});
  declare({web()});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  EXPECT_EQ(only().reason, "port 18080 is held by python3 (pid 42)");
  other.reset();
  turn_until([&] { return only().state == ForwardState::Waiting; });
  EXPECT_EQ(only().host_port, 18080);
}

TEST_F(DeclaredForwards, AreNotOverruledByHandButOverruleIt) {
  TestAccess& reach = container("web");
  ASSERT_TRUE(ask(&reach, 8080, {.host_port = Port{9999}}));
  declare({web()});
  EXPECT_EQ(only().host_port, 18080);
  const auto asked = ask(&reach, 8080, {.host_port = Port{9999}});
  ASSERT_FALSE(asked);
  EXPECT_THAT(asked.error().text, HasSubstr("is a [[forward]] of the configuration"));
}

TEST_F(DeclaredForwards, FollowTheNameOfAContainer) {
  declare({web()});
  TestAccess& reach = container("web");
  show(reach, {8080});
  reach.rename("shop");
  changed(reach);
  EXPECT_EQ(table->forwards().infos().size(), 2U);
  EXPECT_TRUE(std::ranges::any_of(table->forwards().infos(), [](const ForwardInfo& f) {
    return f.container_id.empty() && f.container_name == "web" && f.state == ForwardState::Waiting;
  }));
  reach.rename("web");
  changed(reach);
  EXPECT_EQ(only().state, ForwardState::Active);
  EXPECT_EQ(only().host_port, 18080);
}

}  // namespace
}  // namespace portfwd
