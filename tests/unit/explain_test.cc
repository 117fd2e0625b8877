// Why a port is or isn't forwarded: the first thing that stands in its way, and what would change
// it.
#include "forward/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace portfwd {
namespace {

using testing::HasSubstr;

struct ExplainTest : testing::Test {
  ExplainTest() {
    known.container.name = "web";
    known.container.reach = ReachKind::Broker;
    known.target = {Protocol::Tcp, 8080};
    Listener listener;
    listener.local = {IpAddress::loopback(Family::V4), 8080};
    listener.process = "nginx";
    known.container.listeners = {listener};
  }
  std::string text(const std::string& key) {
    return std::get<std::string>(explain({settings, {32768, 60999}}, known).at(key));
  }
  Settings settings;
  Container container;
  Known known{.subject = container};
};

TEST_F(ExplainTest, SaysWhatWasSeen) {
  EXPECT_THAT(
      std::get<std::vector<std::string>>(explain({settings, {32768, 60999}}, known).at("seen")),
      testing::ElementsAre("nginx listens on 127.0.0.1:8080 (uid 0 inside)"));
}

TEST_F(ExplainTest, NamesTheFirstObstacleAndItsRemedy) {
  known.auto_forwards = 64;
  EXPECT_THAT(text("decision"), HasSubstr("64 forwards already"));
  settings.ports.exclude = {{8080, 8080}};
  EXPECT_THAT(text("decision"), HasSubstr("exclude names port 8080"));
  known.suppressed = true;
  EXPECT_THAT(text("remedy"), HasSubstr("portfwdctl forward web 8080"));
  known.container.listeners.clear();
  EXPECT_THAT(text("decision"), HasSubstr("nothing to forward"));
  known.container.state = ContainerState::Inaccessible;
  known.container.reason = "it is root's";
  EXPECT_EQ(text("remedy"), "it is root's");
}

TEST_F(ExplainTest, TellsWhereAForwardIsAndWhyThere) {
  ForwardInfo forward;
  forward.id = "f7";
  forward.host_addresses = {"127.0.0.1", "::1"};
  forward.host_port = 20000;
  forward.reason = "port 8080 is held by python3";
  known.forward = forward;
  EXPECT_EQ(text("host"), "127.0.0.1 and ::1 at 20000: port 8080 is held by python3");
  EXPECT_THAT(text("remedy"), HasSubstr("portfwdctl unforward f7"));
  EXPECT_TRUE(std::get<bool>(explain({settings, {32768, 60999}}, known).at("forwarded")));
}

}  // namespace
}  // namespace portfwd
