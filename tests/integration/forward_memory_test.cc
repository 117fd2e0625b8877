// Host ports of a container that is created again under a random name, or of which the engine
// returns the name late: it gets those that it had.
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
  /// Sets the labels, as when the engine answers.
  void learn(TestAccess& reach, const Labels& labels) {
    reach.set_labels(labels);
    changed(reach);
  }
  /// A first container has port 8080, forwarded at 20000 since 8080 is taken; then it is removed.
  void have_been_at_20000(const Labels& labels) {
    const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 8080});
    TestAccess& first = labelled("festive_morse", labels);
    show(first, {8080});
    ASSERT_EQ(only().host_port, 20000);
    removed(first, RemovalReason::Gone);
    told.take();
  }
  /// Replaces the table, as a restarted daemon that has read the state of this one.
  void begin_next_life() {
    State state = table->state();
    state.instance.id = "test";
    const auto read = parse_state(to_text(state));
    ASSERT_TRUE(read);
    table->stop();
    turn_until([this] { return table->forwards().draining().empty(); });
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

TEST_F(ForwardMemory, LabelsThatAreToldLateMoveNothingToWhereAnotherForwardIs) {
  have_been_at_20000(compose);
  const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 8080});
  show(container("other"), {8080});
  TestAccess& next = container("quirky_hugle");
  show(next, {8080});
  EXPECT_THAT(told.take(), ElementsAre("+other:8080@20000 0/1", "+quirky_hugle:8080@20001 0/1"));
  learn(next, compose);
  EXPECT_THAT(told.take(), IsEmpty());
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
  apply_settings();
  have_been_at_20000(compose);
  show(labelled("quirky_hugle", compose), {8080});
  EXPECT_EQ(only().host_port, 8080);
  EXPECT_THAT(table->state().ports, IsEmpty());
}

// ---- the ids of forwards -----------------------------------------------------------------------

struct ForwardIds : ForwardMemory {
  [[nodiscard]] std::string id_of(Port port, Direction direction = Direction::In) const {
    for (const ForwardInfo& f : table->forwards().infos()) {
      if (f.container_port == port && f.direction == direction) return f.id;
    }
    return "";
  }
};

TEST_F(ForwardIds, LastForTheSameContainerAndTarget) {
  TestAccess& web = container("web");
  TestAccess& db = container("db");
  show(web, {8080, 8081});
  show(db, {5432});
  const std::string before[] = {id_of(8080), id_of(8081), id_of(5432)};
  begin_next_life();
  added(db);
  added(web);
  show(db, {5432, 5433});
  show(web, {8081});
  show(web, {8080, 8081});
  EXPECT_EQ(id_of(8080), before[0]);
  EXPECT_EQ(id_of(8081), before[1]);
  EXPECT_EQ(id_of(5432), before[2]);
  EXPECT_EQ(id_of(5433), "f4") << "never one that was used";
}

TEST_F(ForwardIds, AreNotGivenOutTwice) {
  TestAccess& web = container("web");
  show(web, {8080});
  const std::string id = id_of(8080);
  begin_next_life();
  added(web);
  show(web, {8080});
  ASSERT_EQ(id_of(8080), id);
  ASSERT_TRUE(table->remove(id));
  show(web, {});
  show(web, {8080});
  EXPECT_EQ(id_of(8080), "f2") << "another forward of the same port";
  TestAccess& other = container("web");
  show(other, {8081});
  EXPECT_EQ(id_of(8081), "f3");
}

TEST_F(ForwardIds, EndWithWhatHasNotComeBack) {
  TestAccess& web = container("web");
  show(web, {8080, 8081});
  begin_next_life();
  begin_next_life();  // former ids survive a restart in which they were not found
  table->forget_former_ids();
  added(web);
  show(web, {8080});
  EXPECT_EQ(id_of(8080), "f3");
}

/// A persistent forward waits for its container by name, as a declared one does.
TEST_F(ForwardIds, LastForWhatWasAskedFor) {
  DeclaredForward& forward = settings.forwards.emplace_back();
  forward.container = "web";
  forward.target = {Protocol::Tcp, 9001};
  table->declare();
  TestAccess& web = container("web");
  const auto persist = ask(&web, 9000, {.persist = true});
  ASSERT_TRUE(persist);
  const auto waiting = ask(nullptr, 9002, {.persist = true, .allow_missing = true}, "shop");
  ASSERT_TRUE(waiting);
  const std::string declared = id_of(9001);
  ASSERT_NE(declared, "");
  const State state = table->state();
  begin_next_life();
  table->declare();
  for (const ForwardSpec& spec : state.forwards) {
    ASSERT_TRUE(table->add(nullptr, restored_request(spec)));
  }
  EXPECT_EQ(id_of(9000), *persist);
  EXPECT_EQ(id_of(9001), declared);
  EXPECT_EQ(id_of(9002), *waiting);
  added(web);
  EXPECT_EQ(id_of(9000), *persist);
  EXPECT_EQ(id_of(9001), declared);
  EXPECT_EQ(table->state().forward_ids.size(), 3U);
}

TEST_F(ForwardIds, AreNeverMadeOfWhatMakesNoSense) {
  TestAccess& web = container("web");
  State state;
  state.instance.next_forward = 5;
  for (const char* id : {"", "f", "x1", "r6", "f0", "f-1", "f1x", "f99999999999999999999", "f7"}) {
    state.forward_ids.push_back(
        {.id = id, .container = web.container().id, .target = {Protocol::Tcp, 8080}});
  }
  state.forward_ids.push_back(state.forward_ids.back());
  table->stop();
  turn_until([this] { return table->forwards().draining().empty(); });
  make_table(state);
  added(web);
  show(web, {8080, 8081});
  EXPECT_EQ(id_of(8080), "f7");
  EXPECT_EQ(id_of(8081), "f8");
}

}  // namespace
}  // namespace portfwd
