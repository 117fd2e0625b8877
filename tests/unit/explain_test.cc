// Explanations why a port is or is not forwarded: the first obstacle and its remedy.
#include "api/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct ExplainTest : testing::Test {
  ExplainTest() {
    container.name = known.container.name = "web";
    known.container.reach = AccessKind::Broker;
    known.target = {Protocol::Tcp, 8080};
    listen_on(IpAddress::loopback(Family::V4));
  }
  void listen_on(IpAddress address) {
    SeenPort::Seen seen{.since = WallTime(std::chrono::seconds(1'700'000'000))};
    seen.listener.local = {address, 8080};
    seen.listener.process = "nginx";
    known.listeners.push_back(seen);
  }
  Fact fact(const std::string& key) {
    return explain({settings, {32768, 60999}, wishes}, known).at(key);
  }
  std::string text(const std::string& key) { return std::get<std::string>(fact(key)); }
  std::vector<std::string> list(const std::string& key) {
    return std::get<std::vector<std::string>>(fact(key));
  }
  void rule(std::optional<std::string> name, std::optional<std::string> on_auto_forward = {}) {
    Rule& added = settings.rules.emplace_back();
    added.container = std::move(name);
    added.on_auto_forward = std::move(on_auto_forward);
    added.place = {"c.toml", static_cast<std::uint32_t>(settings.rules.size()), 1};
  }
  Settings settings;
  SystemClock clock;
  ContainerWishes wishes{clock};
  Container container;
  Known known{.subject = &container};
};

TEST_F(ExplainTest, SaysWhatWasSeenAndSinceWhen) {
  EXPECT_THAT(list("seen"),
              ElementsAre("nginx listens on 127.0.0.1:8080 (uid 0 inside), seen since "
                          "2023-11-14 22:13:20 UTC"));
}

TEST_F(ExplainTest, SaysWhyTheProgramOfARootsContainerCannotBeKnown) {
  known.listeners[0].listener.process = {};
  EXPECT_THAT(list("seen"), ElementsAre(HasSubstr("a program that can't be named")));
  for (const AccessKind reach : {AccessKind::Bridge, AccessKind::Helper}) {
    known.container.reach = reach;
    EXPECT_THAT(list("seen"), ElementsAre(HasSubstr("belongs to root")));
  }
}

TEST_F(ExplainTest, NamesTheFirstObstacleAndItsRemedy) {
  known.auto_forwards = 64;
  EXPECT_THAT(text("decision"), HasSubstr("64 forwards already"));
  known.listeners[0].settling = std::chrono::milliseconds(10);
  EXPECT_THAT(text("decision"), HasSubstr("must live"));
  settings.ports.exclude = {{8080, 8080}};
  EXPECT_THAT(text("decision"), HasSubstr("exclude names port 8080"));
  known.listeners[0].listener.unreachable = "let it listen on 0.0.0.0";
  EXPECT_THAT(text("decision"), HasSubstr("can't be dialled"));
  EXPECT_EQ(text("remedy"), "let it listen on 0.0.0.0");
  known.suppressed = true;
  EXPECT_THAT(text("remedy"), HasSubstr("portfwdctl forward web 8080"));
  known.listeners.clear();
  EXPECT_THAT(text("decision"),
              HasSubstr("nothing to forward, and a server would not be: [ports]"));
  known.container.state = ContainerState::Inaccessible;
  known.container.reason = "it is root's";
  EXPECT_EQ(text("remedy"), "it is root's");
}

TEST_F(ExplainTest, TellsOfEachRuleForEachListenerWhatBecameOfIt) {
  rule("db");
  rule("web", "ignore");
  EXPECT_THAT(list("rules"),
              ElementsAre("the rule at c.toml:1 does not match: container is \"web\", not \"db\"",
                          "the rule at c.toml:2 matches"));
  EXPECT_EQ(text("decision"), "the rule at c.toml:2 says on_auto_forward = \"ignore\"");
  listen_on(IpAddress::loopback(Family::V6));
  EXPECT_THAT(list("rules"),
              ElementsAre(HasSubstr("127.0.0.1:8080: the rule at c.toml:1"), HasSubstr("c.toml:2"),
                          HasSubstr("[::1]:8080: the rule at c.toml:1"), HasSubstr("c.toml:2")));
  known.listeners.clear();
  EXPECT_EQ(list("rules").size(), 2U) << "for a server that does not exist yet";
}

TEST_F(ExplainTest, OfAContainerOnTheHostsNetworkNothingIsForwarded) {
  container.on_host = true;
  known.container.reason = "its network is the host's";
  known.listeners.clear();
  EXPECT_FALSE(std::get<bool>(fact("forwarded")));
  EXPECT_THAT(text("summary"), HasSubstr("its network is the host's"));
  EXPECT_THAT(text("remedy"), HasSubstr("connect to port 8080 of the host"));
}

TEST_F(ExplainTest, AForwardWhoseContainerIsAwaySaysSo) {
  known.subject = nullptr;
  known.listeners.clear();
  known.asked_by = "declared at c.toml:3";
  ForwardInfo forward;
  forward.container_name = "web";
  forward.origin = Origin::Declared;
  forward.state = ForwardState::Waiting;
  forward.host_addresses = {"127.0.0.1"};
  forward.host_port = 18080;
  forward.reason = "its container is not there";
  known.forward = forward;
  EXPECT_THAT(list("seen"), ElementsAre("no container of this name is there"));
  EXPECT_EQ(text("decision"), "declared at c.toml:3");
  EXPECT_EQ(text("host"), "127.0.0.1 at 18080: its container is not there");
  EXPECT_EQ(text("remedy"),
            "it serves as soon as a container named web is there; or change its [[forward]] in "
            "the configuration");
}

TEST_F(ExplainTest, AReverseForwardSaysWhereItLeadsAndWhatItWaitsFor) {
  known.listeners.clear();
  ForwardInfo forward;
  forward.id = "r1";
  forward.container_name = "web";
  forward.direction = Direction::Reverse;
  forward.origin = Origin::Manual;
  forward.host_addresses = {"127.0.0.1", "::1"};
  forward.host_port = 15432;
  known.forward = forward;
  EXPECT_THAT(list("seen"), ElementsAre(HasSubstr("portfwd itself listens on it inside")));
  EXPECT_EQ(text("host"), "it leads to 127.0.0.1 and ::1 at 15432");
  EXPECT_EQ(text("remedy"), "`portfwdctl unforward r1` ends it");
  known.forward->state = ForwardState::Conflict;
  known.forward->reason = "port 8080 is taken inside by nginx";
  EXPECT_EQ(text("remedy"), "free the port inside, or `portfwdctl unforward r1` ends it");
  known.subject = nullptr;
  known.forward->state = ForwardState::Waiting;
  EXPECT_EQ(text("remedy"),
            "it serves as soon as a container named web is there; or `portfwdctl unforward r1` "
            "ends it");
}

TEST_F(ExplainTest, AForwardThatWaitsForItsServerSaysSo) {
  known.listeners.clear();
  ForwardInfo forward;
  forward.id = "f2";
  forward.origin = Origin::Manual;
  forward.state = ForwardState::Waiting;
  forward.host_addresses = {"127.0.0.1"};
  forward.reason = "nothing listens on it yet";
  known.forward = forward;
  EXPECT_EQ(text("remedy"), "start the server inside, or `portfwdctl unforward f2` ends it");
}

TEST_F(ExplainTest, ForAServerThatCannotBeDialledProposesToLeaveItOut) {
  ForwardInfo forward;
  forward.id = "f2";
  forward.state = ForwardState::Waiting;
  forward.host_addresses = {"127.0.0.1"};
  forward.reason = "the target leads back to this port";
  known.forward = forward;
  EXPECT_THAT(text("remedy"), HasSubstr("on_auto_forward"));
}

TEST_F(ExplainTest, AConflictNamesWhatWouldEndIt) {
  ForwardInfo forward;
  forward.state = ForwardState::Conflict;
  forward.reason = "port 8080 is held by python3";
  known.forward = forward;
  known.tried = {"127.0.0.1:8080: port 8080 is held by python3"};
  EXPECT_FALSE(std::get<bool>(fact("forwarded")));
  EXPECT_EQ(list("tried"), known.tried);
  EXPECT_THAT(text("remedy"), HasSubstr("fallback_range"));
  rule("web");
  settings.rules[0].require_host_port = true;
  EXPECT_THAT(text("remedy"), HasSubstr("require_host_port"));
}

TEST_F(ExplainTest, NamesWhatElseThanAnotherHolderCausesAConflict) {
  ForwardInfo& forward = known.forward.emplace();
  forward.state = ForwardState::Conflict;
  forward.error = EADDRNOTAVAIL;
  EXPECT_THAT(text("remedy"), HasSubstr("bind"));
  EXPECT_THAT(text("summary"), HasSubstr("is in conflict"));
  forward.error = EACCES;
  forward.origin = Origin::Declared;
  EXPECT_THAT(text("remedy"), HasSubstr("ip_unprivileged_port_start"));
  EXPECT_THAT(text("remedy"), HasSubstr("[[forward]]"));
  forward.error = EMFILE;
  EXPECT_THAT(text("remedy"), HasSubstr("LimitNOFILE"));
  forward.direction = Direction::Reverse;
  EXPECT_THAT(text("remedy"), HasSubstr("LimitNOFILE"));
  forward.error = EACCES;
  EXPECT_THAT(text("remedy"), HasSubstr("inside"));
}

TEST_F(ExplainTest, SaysThatAnInterfaceIsDownInside) {
  ForwardInfo& forward = known.forward.emplace();
  forward.state = ForwardState::Waiting;
  forward.reason = "cannot dial the target: Network is unreachable";
  forward.error = ENETUNREACH;
  for (const char* address : {"127.0.0.1", "0.0.0.0", "::", "::1"}) {
    forward.container_address = address;
    for (const int error : {ENETUNREACH, EADDRNOTAVAIL, ETIMEDOUT}) {
      forward.error = error;
      EXPECT_THAT(text("remedy"), HasSubstr("ip link set lo up")) << address << error;
    }
  }
  forward.error = ENETUNREACH;
  known.listeners.clear();
  EXPECT_THAT(text("remedy"), HasSubstr("ip link set lo up"));
  forward.container_address = "10.0.0.2";
  EXPECT_THAT(text("remedy"), HasSubstr("interface that has 10.0.0.2"));
  known.container.reach = AccessKind::Bridge;
  EXPECT_EQ(text("remedy").find("ip link"), std::string::npos) << "dialled from outside";
}

TEST_F(ExplainTest, SaysThatTheOtherProtocolIsOpen) {
  known.listeners.clear();
  known.other_protocol = true;
  EXPECT_EQ(text("protocol"), "tcp");
  EXPECT_THAT(list("seen").front(), HasSubstr("8080/udp"));
  EXPECT_THAT(text("remedy"), HasSubstr("8080/udp"));
}

TEST_F(ExplainTest, OfADetachedContainerSaysHowItComesBack) {
  known.subject = nullptr;
  known.listeners.clear();
  known.ended.emplace().reason = "unforwarded";
  known.detached = true;
  EXPECT_EQ(text("decision"), "its container was detached");
  EXPECT_THAT(text("remedy"), HasSubstr("portfwdctl attach --pid PID --name web"));
  EXPECT_THAT(list("seen").front(), HasSubstr("detached"));
  known.container.pid = 4711;
  EXPECT_THAT(text("remedy"), HasSubstr("--pid 4711"));
  known.detached = false;
  EXPECT_EQ(text("decision"), "its container is gone");
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
  EXPECT_TRUE(std::get<bool>(fact("forwarded")));
}

}  // namespace
}  // namespace portfwd
