// A container that is made anew under a name of chance, or whose engine tells late what it is
// called, gets the host ports that it had.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/forward_table_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;
using testing::IsEmpty;

struct ForwardMemory : ForwardTableTest {
  using Labels = std::map<std::string, std::string>;
  const Labels compose{{"com.docker.compose.project", "shop"},
                       {"com.docker.compose.service", "web"},
                       {"com.docker.compose.container-number", "1"}};
  const Labels folder{{"devcontainer.local_folder", "/home/me/shop"}};

  TestAccess& labelled(const std::string& name, const Labels& labels) {
    TestAccess& reach = container(name);
    learn(reach, labels);
    return reach;
  }
  /// Its engine has answered.
  void learn(TestAccess& reach, const Labels& labels) {
    reach.set_labels(labels);
    changed(reach);
  }
  /// A first container with port 8080, at 20000 since somebody has 8080; then it is gone.
  void have_been_at_20000(const Labels& labels) {
    const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 8080});
    TestAccess& first = labelled("festive_morse", labels);
    show(first, {8080});
    ASSERT_EQ(only().host_port, 20000);
    removed(first, RemovalReason::Gone);
    told.take();
  }
  /// Another daemon, which has read what this one wrote.
  void begin_next_life() {
    const auto read = parse_state(to_text(table->state()));
    ASSERT_TRUE(read);
    table->stop();
    turn_until([this] { return !table->forwards().draining(); });
    make_table(*read);
    told.take();
  }
};

TEST_F(ForwardMemory, AContainerMadeAnewIsKnownByItsLabels) {
  for (const auto& [name, labels] : {std::pair("hugle", compose), {"stallman", folder}}) {
    have_been_at_20000(labels);
    TestAccess& next = labelled(name, labels);
    show(next, {8080});
    EXPECT_THAT(told.take(), ElementsAre(fmt::format("+{}:8080@20000 0/1", name)));
    EXPECT_EQ(only().reason, "it had this host port before");
    removed(next, RemovalReason::Gone);
  }
}

TEST_F(ForwardMemory, ItIsSoInTheNextLifeOfTheDaemon) {
  for (const auto& [name, labels] : {std::pair("hugle", compose), {"stallman", folder}}) {
    have_been_at_20000(labels);
    begin_next_life();
    TestAccess& next = labelled(name, labels);
    show(next, {8080});
    EXPECT_EQ(only().host_port, 20000);
    removed(next, RemovalReason::Gone);
  }
}

TEST_F(ForwardMemory, TheSameContainerIsKnownByItsNameBeforeItsLabelsAreTold) {
  const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 8080});
  show(labelled("festive_morse", compose), {8080});
  begin_next_life();
  TestAccess& found = container("festive_morse");
  show(found, {8080});
  learn(found, compose);
  EXPECT_THAT(told.take(), ElementsAre("+festive_morse:8080@20000 0/1")) << "at once, and for good";
}

TEST_F(ForwardMemory, LabelsThatAreToldLateMoveItToWhereItWas) {
  have_been_at_20000(compose);
  TestAccess& next = container("quirky_hugle");
  show(next, {8080});
  EXPECT_EQ(only().host_port, 8080) << "nothing was remembered of this name";
  told.take();
  learn(next, compose);
  EXPECT_THAT(told.take(),
              ElementsAre("-quirky_hugle:8080 replaced", "+quirky_hugle:8080@20000 0/1"));
  learn(next, compose);
  EXPECT_THAT(told.take(), IsEmpty());
}

TEST_F(ForwardMemory, ANameThatIsToldLateDoesSoToo) {
  have_been_at_20000({});
  TestAccess& next = container("a1b2c3d4e5f6");
  show(next, {8080});
  told.take();
  next.rename("festive_morse");
  changed(next);
  EXPECT_EQ(only().host_port, 20000);
}

TEST_F(ForwardMemory, AHostPortThatAnotherForwardHasByNowIsLeftToThat) {
  have_been_at_20000(compose);
  const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 8080});
  show(container("other"), {8080});
  TestAccess& next = container("quirky_hugle");
  show(next, {8081});
  learn(next, compose);
  show(next, {8080, 8081});
  EXPECT_THAT(told.take(), ElementsAre("+other:8080@20000 0/1", "+quirky_hugle:8081@8081 0/1",
                                       "+quirky_hugle:8080@20001 0/1"));
}

TEST_F(ForwardMemory, AnotherServiceOrFolderIsAnotherContainer) {
  have_been_at_20000(compose);
  Labels other = compose;
  other["com.docker.compose.service"] = "db";
  show(labelled("quirky_hugle", other), {8080});
  EXPECT_EQ(only().host_port, 8080);
}

TEST_F(ForwardMemory, WithoutStickyNothingIsRemembered) {
  settings.host.sticky = false;
  table->apply_settings();
  have_been_at_20000(compose);
  show(labelled("quirky_hugle", compose), {8080});
  EXPECT_EQ(only().host_port, 8080);
  EXPECT_THAT(table->state().ports, IsEmpty());
}

}  // namespace
}  // namespace portfwd
