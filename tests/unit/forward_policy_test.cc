// Decisions on listeners, as a table: a configuration and a listener, the decision and its reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/config_file.h"
#include "policy/policy.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

constexpr PortRange kEphemeral{32768, 60999};

Container container() {
  Container c;
  c.name = "db-1";
  c.engine = "podman";
  c.image = "docker.io/library/postgres:16";
  c.project = "shop";
  c.labels = {{"stage", "test-7"}};
  return c;
}

Listener listener(Port port = 5432) {
  Listener l;
  l.local = {IpAddress::any(Family::V4), port};
  l.process = "postgres";
  l.command = "/usr/lib/postgresql/16/bin/postgres -D /data";
  l.uid = 70;
  return l;
}

Settings read(const std::string& text) {
  auto settings = parse_config(text, "c.toml");
  EXPECT_TRUE(settings) << text << "\n" << text_of(settings.error());
  return settings ? std::move(*settings) : Settings{};
}

Decision decide_in(const Settings& settings, const Container& c, const Listener& l) {
  const SystemClock clock;
  const MetadataPolicy metadata_policy(clock);
  return decide({settings, kEphemeral, metadata_policy}, c, l);
}

Listener of_udp(Port port) {
  Listener l = listener(port);
  l.protocol = Protocol::Udp;
  return l;
}

Listener on_path(const std::string& path) {
  Listener l = listener();
  l.protocol = Protocol::Unix;
  l.local = UnixPath{path};
  return l;
}

struct Case {
  const char* config;
  bool forward;
  const char* because;
  Listener seen = listener();
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.config;
}

struct RuleCases : testing::TestWithParam<Case> {};

TEST_P(RuleCases, DecideAsWritten) {
  const Case& c = GetParam();
  const Decision decision = decide_in(read(c.config), container(), c.seen);
  EXPECT_EQ(decision.forward, c.forward);
  EXPECT_EQ(decision.because, c.because);
}

constexpr const char* kDefault = "[ports] include names it and nothing excludes it";
constexpr const char* kIgnored = "the rule at c.toml:1 says on_auto_forward = \"ignore\"";

#define IGNORE_IF(condition) "[[rule]]\n" condition "\non_auto_forward = \"ignore\"\n"

INSTANTIATE_TEST_SUITE_P(Defaults, RuleCases,
                         testing::Values(Case{"", true, kDefault},
                                         Case{"", false, "[ports] exclude names port 22",
                                              listener(22)},
                                         Case{"[ports]\ninclude = [\"8000-9000\"]", false,
                                              "[ports] include does not name port 5432"},
                                         Case{"[ports]\non_auto_forward = \"ignore\"", false,
                                              "[ports] on_auto_forward = \"ignore\""}));

INSTANTIATE_TEST_SUITE_P(
    Conditions, RuleCases,
    testing::Values(Case{IGNORE_IF(""), false, kIgnored},
                    Case{IGNORE_IF("container = \"db-*\""), false, kIgnored},
                    Case{IGNORE_IF("container = \"db\""), true, kDefault},
                    Case{IGNORE_IF("engine = \"podman\""), false, kIgnored},
                    Case{IGNORE_IF("engine = \"docker\""), true, kDefault},
                    Case{IGNORE_IF("image = \"*/postgres:*\""), false, kIgnored},
                    Case{IGNORE_IF("image = \"postgres\""), true, kDefault},
                    Case{IGNORE_IF("project = \"sho?\""), false, kIgnored},
                    Case{IGNORE_IF("project = \"blog\""), true, kDefault},
                    Case{IGNORE_IF("label = {stage = \"test-*\"}"), false, kIgnored},
                    Case{IGNORE_IF("labels = {stage = \"test-*\", other = \"*\"}"), true, kDefault},
                    Case{IGNORE_IF("process = \"^post\""), false, kIgnored},
                    Case{IGNORE_IF("process = \"-D /data$\""), false, kIgnored},
                    Case{IGNORE_IF("process = \"nginx\""), true, kDefault},
                    Case{IGNORE_IF("uid = 70"), false, kIgnored},
                    Case{IGNORE_IF("uid = 0"), true, kDefault},
                    Case{IGNORE_IF("address = \"0.0.0.0\""), false, kIgnored},
                    Case{IGNORE_IF("address = \"127.0.0.1\""), true, kDefault},
                    Case{IGNORE_IF("ports = [80, \"5000-6000\"]"), false, kIgnored},
                    Case{IGNORE_IF("ports = [80]"), true, kDefault},
                    Case{IGNORE_IF("container = \"db-*\"\nengine = \"docker\""), true, kDefault}));

Listener on_name(const std::string& name) {
  Listener l = on_path("/");
  l.local = AbstractName{name};
  return l;
}

constexpr const char* kIncluded = "[unix] include names it and nothing excludes it";
constexpr const char* kNotIncluded = "[unix] include does not name \"/run/app.sock\"";

INSTANTIATE_TEST_SUITE_P(
    UnixSockets, RuleCases,
    testing::Values(
        Case{"", false, kNotIncluded, on_path("/run/app.sock")},
        Case{"[unix]\ninclude = [\"/run/*.sock\"]", true, kIncluded, on_path("/run/app.sock")},
        Case{"[unix]\ninclude = [\"/*.sock\"]", false, kNotIncluded, on_path("/run/app.sock")},
        Case{"[unix]\ninclude = [\"/run/*\"]\nexclude = [\"/run/app.sock\"]", false,
             "[unix] exclude names \"/run/app.sock\"", on_path("/run/app.sock")},
        Case{"[unix]\ninclude = [\"@*\"]", false, kNotIncluded, on_path("/run/app.sock")},
        Case{"[unix]\ninclude = [\"@/tmp/*\"]", true, kIncluded, on_name("/tmp/dbus/x")},
        Case{"[unix]\ninclude = [\"/*\"]", false, "[unix] include does not name \"@app\"",
             on_name("app")},
        Case{"[unix]\ninclude = [\"@a*\"]", false, "[unix] include does not name \"@a?b\"",
             on_name(std::string("a\0b", 3))},
        Case{"[[rule]]\nunix = [\"/run/*\"]", true, "the rule at c.toml:1 names it", on_path("/run/app.sock")},
        Case{"[[rule]]\nunix = [\"/tmp/*\"]", false, kNotIncluded, on_path("/run/app.sock")},
        Case{"[[rule]]\nunix = [\"/run/*\"]", true, kDefault},
        Case{IGNORE_IF("unix = [\"/run/*\"]"), false, kIgnored, on_path("/run/app.sock")},
        Case{IGNORE_IF("container = \"db-*\""), false, kIgnored, on_path("/run/app.sock")},
        Case{IGNORE_IF("ports = [5432]"), false, kNotIncluded, on_path("/run/app.sock")},
        Case{IGNORE_IF("address = \"0.0.0.0\""), false, kNotIncluded, on_path("/run/app.sock")}));

INSTANTIATE_TEST_SUITE_P(
    Order, RuleCases,
    testing::Values(Case{"[[rule]]\ncontainer = \"*\"\non_auto_forward = \"silent\"\n[[rule]]\n"
                         "on_auto_forward = \"ignore\"",
                         true, kDefault},
                    Case{"[[rule]]\nports = [22]", true, "the rule at c.toml:1 names it",
                         listener(22)},
                    Case{"[[rule]]\ncontainer = \"db-*\"", false, "[ports] exclude names port 22",
                         listener(22)},
                    Case{"[ports]\non_auto_forward = \"ignore\"\n[[rule]]\nports = [5432]", false,
                         "[ports] on_auto_forward = \"ignore\""},
                    Case{"[ports]\non_auto_forward = \"ignore\"\n[[rule]]\nuid = 70\n"
                         "on_auto_forward = \"notify\"",
                         true, kDefault}));

constexpr const char* kNoUdp = "UDP is not detected: [detect] udp = false";

INSTANTIATE_TEST_SUITE_P(
    Udp, RuleCases,
    testing::Values(
        Case{"", false, kNoUdp, of_udp(7000)},
        Case{"[[rule]]\nports = [7000]", false, kNoUdp, of_udp(7000)},
        Case{"[detect]\nudp = true", true, kDefault, of_udp(7000)},
        Case{"[detect]\nudp = true", false, "[ports] exclude names port 53", of_udp(53)},
        Case{"[[rule]]\nprotocol = \"udp\"", true, kDefault, of_udp(7000)},
        Case{"[[rule]]\nprotocol = \"udp\"\ncontainer = \"web\"", false, kNoUdp, of_udp(7000)},
        Case{"[[rule]]\nprotocol = \"udp\"\nports = [53]", true, "the rule at c.toml:1 names it",
             of_udp(53)},
        Case{"[[rule]]\nprotocol = \"udp\"\non_auto_forward = \"ignore\"", true, kDefault},
        Case{"[detect]\nudp = true", false,
             "UDP clients take their ports from 32768-60999; a rule with ports = [40000] forwards "
             "it "
             "nevertheless",
             of_udp(40000)},
        Case{"[detect]\nudp = true\n[[rule]]\nports = [40000]", true,
             "the rule at c.toml:3 names it", of_udp(40000)}));

TEST(UdpInterest, FollowsFromSettingsRulesAndRequests) {
  const auto interest = [](const std::string& config, const std::vector<Port>& asked = {}) {
    return udp_interest(read(config), kEphemeral, asked);
  };
  EXPECT_FALSE(interest("").wanted);
  EXPECT_FALSE(interest("[[rule]]\nports = [7000]").wanted);
  EXPECT_TRUE(interest("[detect]\nudp = true").covers(7000));
  EXPECT_FALSE(interest("[detect]\nudp = true").covers(40000));
  EXPECT_TRUE(interest("[[rule]]\nprotocol = \"udp\"\nports = [40000]").covers(40000));
  EXPECT_TRUE(interest("[detect]\nudp = true\n[[rule]]\nports = [40000]").covers(40000));
  EXPECT_TRUE(interest("", {40000}).covers(40000));
  EXPECT_FALSE(interest("", {40000}).covers(40001));
}

TEST(Policy, AContainersOwnWishHoldsUnlessTheUserSaysOtherwise) {
  Container c = container();
  c.labels["portfwd"] = "off";
  EXPECT_THAT(decide_in(read(""), c, listener()).because, HasSubstr("label portfwd=off"));
  EXPECT_FALSE(decide_in(read("[[rule]]\nports = [5432]"), c, listener()).forward);
  EXPECT_TRUE(decide_in(read("[[rule]]\non_auto_forward = \"silent\""), c, listener()).forward);
  Listener l = listener();
  l.opted_out = true;
  EXPECT_THAT(decide_in(read(""), container(), l).because, HasSubstr("PORTFWD=off"));
}

TEST(Policy, AProgramThatCantBeKnownMatchesNoProcessRule) {
  Listener l = listener();
  l.process = l.command = "";
  EXPECT_TRUE(decide_in(read(IGNORE_IF("process = \".*\"")), container(), l).forward);
}

TEST(Policy, WhatCantBeDialledIsNotForwardedWhateverARuleSays) {
  Listener l = listener();
  l.unreachable = "no way there";
  EXPECT_EQ(decide_in(read("[[rule]]\nports = [5432]"), container(), l).because, "no way there");
}

TEST(Policy, AnIgnoredAddressCountsUnlessARuleNamesIt) {
  Listener l = listener();
  l.local.ip().address = IpAddress::v4(127, 0, 0, 11);
  EXPECT_THAT(decide_in(read(""), container(), l).because,
              AllOf(HasSubstr("127.0.0.11"), HasSubstr("[ports] ignore_addresses")));
  EXPECT_TRUE(decide_in(read("[[rule]]\naddress = \"127.0.0.11\""), container(), l).forward);
}

TEST(Policy, ARuleDecidesEveryKey) {
  const Settings settings = read(R"(
[[rule]]
ports = ["5430-5440", 9000]
on_auto_forward = "silent"
host_port = 15430
require_host_port = true
settle = "2s"
scheme = "https"
proxy_protocol = "v2"
restrict_to_user = false
allow_users = ["root", 1234]
bind = "127.0.0.9"
label = "the database"
)");
  const Decision decision = decide_in(settings, container(), listener());
  EXPECT_EQ(decision.settle, 2s);
  const Treatment wanted{.on_auto_forward = "silent",
                         .label = "the database",
                         .scheme = "https",
                         .host_port = Port{15432},
                         .require_host_port = true,
                         .bind = Bind{IpAddress::v4(127, 0, 0, 9)},
                         .restrict_to_user = false,
                         .allow_users = {0, 1234},
                         .proxy_protocol = ProxyProtocol::V2};
  EXPECT_EQ(decision.treatment, wanted);
}

TEST(Policy, WhatARuleLeavesOutFallsToTheSections) {
  const Settings settings = read(
      "[host]\nrestrict_to_user = false\n[ports]\n"
      "on_auto_forward = \"silent\"\n[[rule]]\nlabel = \"x\"\n");
  const Treatment treatment = decide_in(settings, container(), listener()).treatment;
  EXPECT_EQ(treatment.on_auto_forward, "silent");
  EXPECT_FALSE(treatment.bind);
  EXPECT_FALSE(treatment.restrict_to_user);
  EXPECT_EQ(treatment.scheme, "http");
}

TEST(Policy, EphemeralPortsSettleUnlessARuleNamesThem) {
  EXPECT_EQ(decide_in(read(""), container(), listener(5432)).settle, 0s);
  EXPECT_EQ(decide_in(read(""), container(), listener(40000)).settle, 300ms);
  EXPECT_EQ(decide_in(read("[[rule]]\nlabel = \"x\""), container(), listener(40000)).settle, 300ms);
  EXPECT_EQ(decide_in(read("[[rule]]\nports = [40000]"), container(), listener(40000)).settle, 0s);
  EXPECT_EQ(decide_in(read("[[rule]]\nsettle = \"0s\""), container(), listener(40000)).settle, 0s);
}

TEST(Policy, TellsOfEachRuleWhyItDidOrDidNotDecide) {
  const Settings settings = read(
      "[[rule]]\ncontainer = \"web\"\nprocess = \"nginx\"\n[[rule]]\nuid = 70\n[[rule]]\n"
      "labels = {stage = \"prod\"}\n");
  EXPECT_THAT(
      rules_tried(settings, container(), listener()),
      ElementsAre(
          "the rule at c.toml:1 does not match: container is \"db-1\", not \"web\"; process "
          "is \"postgres\", started as \"/usr/lib/postgresql/16/bin/postgres -D /data\", not "
          "\"nginx\"",
          "the rule at c.toml:4 matches", StartsWith("the rule at c.toml:6 is not tried")));
}

TEST(Policy, AContainerIsIgnoredWholeWhenNoPortOfItCouldBeForwarded) {
  const auto why = [](const char* config) { return ignored_whole(read(config), container()); };
  EXPECT_EQ(why(""), "");
  EXPECT_EQ(why(IGNORE_IF("container = \"db-*\"")), "the rule at c.toml:1 ignores it");
  EXPECT_EQ(why(IGNORE_IF("container = \"web\"")), "");
  EXPECT_EQ(why(IGNORE_IF("ports = [1]")), "");
  EXPECT_EQ(why("[[rule]]\nports = [1]\n" IGNORE_IF("")), "") << "port 1 would be forwarded";
  EXPECT_EQ(why("[[rule]]\nlabel = \"x\"\n" IGNORE_IF("")), "") << "the first one matches";
  Container c = container();
  c.labels["portfwd"] = "off";
  EXPECT_THAT(ignored_whole(read("[[rule]]\nlabel = \"x\""), c), HasSubstr("portfwd=off"));
  EXPECT_EQ(ignored_whole(read("[[rule]]\non_auto_forward = \"notify\""), c), "");
}

struct PublishedPortTest : testing::Test {
  PublishedPortTest() { web.published = {{Protocol::Tcp, "", 18080, 5430, 10}}; }
  Container web = container();
};

TEST_F(PublishedPortTest, IsNotForwardedASecondTime) {
  const Decision decision = decide_in(read(""), web, listener());
  EXPECT_FALSE(decision.forward);
  EXPECT_THAT(decision.because, HasSubstr("podman publishes it itself, at port 18082 of every"));
}

TEST_F(PublishedPortTest, NamesTheAddressThatItIsPublishedAt) {
  web.published = {{Protocol::Tcp, "127.0.0.1", 18080, 5432, 1}};
  EXPECT_EQ(published_at(web, listener()), "127.0.0.1:18080");
  web.published = {{Protocol::Tcp, "::1", 18080, 5432, 1}};
  EXPECT_EQ(published_at(web, listener()), "[::1]:18080");
}

TEST_F(PublishedPortTest, IsForwardedWhenItsListenerIsOnLoopbackWhereTheEngineDoesNotLead) {
  Listener loopback = listener();
  loopback.local.ip().address = IpAddress::loopback(Family::V4);
  EXPECT_TRUE(decide_in(read(""), web, loopback).forward);
}

TEST_F(PublishedPortTest, IsAnyOfTheNamespaceThatARootlessEngineRunsIn) {
  web.published.clear();
  web.engine = "rootlesskit";
  Listener loopback = listener(8080);
  loopback.local.ip().address = IpAddress::loopback(Family::V4);
  const Decision decision = decide_in(read(""), web, loopback);
  EXPECT_FALSE(decision.forward);
  EXPECT_THAT(decision.because, HasSubstr("rootlesskit publishes it itself, at port 8080"));
}

TEST_F(PublishedPortTest, IsForwardedWhenARuleNamesIt) {
  EXPECT_TRUE(decide_in(read("[[rule]]\nports = [5432]\n"), web, listener()).forward);
}

TEST_F(PublishedPortTest, IsWaitedForWhileTheEngineIsAskedWhichTheyAre) {
  web.published.clear();
  web.publishes_unknown = true;
  EXPECT_FALSE(decide_in(read(""), web, listener()).forward);
  Listener loopback = listener();
  loopback.local.ip().address = IpAddress::loopback(Family::V4);
  EXPECT_TRUE(decide_in(read(""), web, loopback).forward) << "it is forwarded in any case";
}

TEST_F(PublishedPortTest, SaysNothingOfOtherPortsAndProtocols) {
  EXPECT_TRUE(decide_in(read(""), web, listener(5440)).forward);
  EXPECT_TRUE(decide_in(read(""), web, listener(5429)).forward);
  web.published = {{Protocol::Udp, "", 18080, 5432, 1}};
  EXPECT_TRUE(decide_in(read(""), web, listener()).forward);
}

TEST(Policy, ForwardsNoPortThatLeadsOutThroughSsh) {
  const auto decided = [](const char* config, const char* process, const char* command) {
    Listener l = listener(9000);
    l.process = process;
    l.command = command;
    return decide_in(read(config), container(), l);
  };
  for (const char* session : {"sshd: me@notty", "sshd: me@pts/0", "/usr/sbin/sshd -D -R"}) {
    EXPECT_FALSE(decided("", "sshd", session).forward) << session;
    EXPECT_THAT(decided("", "sshd", session).because, HasSubstr("ssh -R"));
    EXPECT_TRUE(decided("[[rule]]\nports = [9000]\n", "sshd", session).forward);
    EXPECT_TRUE(decided("", "postgres", session).forward) << "published by another program";
  }
  EXPECT_FALSE(decided("", "sshd-session", "sshd-session: me@notty").forward);
  for (const char* server : {"sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
                             "/usr/sbin/sshd -D -p 9000", ""}) {
    EXPECT_TRUE(decided("", "sshd", server).forward) << server;
  }
}

}  // namespace
}  // namespace portfwd
