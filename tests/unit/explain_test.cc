// Explanations of why a port is or is not forwarded: the first obstacle and its remedies.
#include "api/explain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Code = RemedyCode;

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
    return explain({settings, {32768, 60999}, metadata_policy}, known).at(key);
  }
  std::string text(const std::string& key) { return std::get<std::string>(fact(key)); }
  std::vector<std::string> list(const std::string& key) {
    return std::get<std::vector<std::string>>(fact(key));
  }
  std::vector<Remedy> remedies() { return std::get<std::vector<Remedy>>(fact("remedies")); }
  void rule(std::optional<std::string> name, std::optional<std::string> on_auto_forward = {}) {
    Rule& added = settings.rules.emplace_back();
    added.container = std::move(name);
    added.on_auto_forward = std::move(on_auto_forward);
    added.place = {"c.toml", static_cast<std::uint32_t>(settings.rules.size()), 1};
  }
  Settings settings;
  SystemClock clock;
  MetadataPolicy metadata_policy{clock};
  Container container;
  PortState known{.subject = &container};
};

TEST_F(ExplainTest, SaysWhatWasSeenAndSinceWhen) {
  EXPECT_THAT(list("seen"),
              ElementsAre("nginx listens on 127.0.0.1:8080 (uid 0 inside), seen since "
                          "2023-11-14 22:13:20 UTC"));
}

TEST_F(ExplainTest, SaysWhyTheProgramOfARootsContainerCannotBeKnown) {
  known.listeners[0].listener.process = {};
  EXPECT_THAT(list("seen"), ElementsAre(HasSubstr("an unknown program listens on")));
  for (const AccessKind reach : {AccessKind::Bridge, AccessKind::Helper}) {
    known.container.reach = reach;
    EXPECT_THAT(list("seen"), ElementsAre(HasSubstr("belongs to root")));
  }
}

TEST_F(ExplainTest, NamesTheFirstObstacleAndItsRemedy) {
  known.auto_forwards = 64;
  EXPECT_THAT(text("decision"), HasSubstr("64 forwards already"));
  const Remedy forward{Code::ForwardPort, {"web", "8080"}};
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::RaiseMaxForwards}, forward));
  known.listeners[0].settling = std::chrono::milliseconds(10);
  EXPECT_THAT(text("decision"), HasSubstr("must exist"));
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::ExplainAgain}, Remedy{Code::SkipSettle}));
  settings.ports.exclude = {{8080, 8080}};
  EXPECT_THAT(text("decision"), HasSubstr("exclude names port 8080"));
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::ChangeConfiguration}, forward));
  known.listeners[0].listener.unreachable = "let it listen on 0.0.0.0";
  EXPECT_THAT(text("decision"), HasSubstr("cannot be dialled"));
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::MakeReachable, {"let it listen on 0.0.0.0"}}));
  EXPECT_EQ(text("remedy"), "let it listen on 0.0.0.0");
  known.suppressed = true;
  EXPECT_THAT(remedies(), ElementsAre(forward));
  known.listeners.clear();
  EXPECT_THAT(text("decision"), HasSubstr("a server would not be forwarded: [ports]"));
  const Remedy hold{Code::HoldPort, {"web", "8080"}};
  EXPECT_THAT(remedies(), ElementsAre(hold));
  settings.ports.exclude.clear();
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::StartServer}, hold));
  known.container.state = ContainerState::Inaccessible;
  known.container.reason = "it is root's";
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::MakeAccessible, {"it is root's"}}));
  EXPECT_EQ(text("remedy"), "it is root's");
}

TEST_F(ExplainTest, ListsTheResultOfEachRuleForEachListener) {
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
  EXPECT_THAT(remedies(),
              ElementsAre(Remedy{Code::UseHostPort, {"8080"}}, Remedy{Code::LeaveHostNetwork}));
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
  EXPECT_THAT(list("seen"), ElementsAre("there is no container of this name"));
  EXPECT_EQ(text("decision"), "declared at c.toml:3");
  EXPECT_EQ(text("host"), "127.0.0.1, port 18080: its container is not there");
  EXPECT_THAT(remedies(),
              ElementsAre(Remedy{Code::StartContainer, {"web"}}, Remedy{Code::ChangeDeclaration}));
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
  EXPECT_EQ(text("host"), "it leads to 127.0.0.1 and ::1, port 15432");
  const Remedy end{Code::EndForward, {"r1"}};
  EXPECT_THAT(remedies(), ElementsAre(end));
  known.forward->state = ForwardState::Conflict;
  known.forward->reason = "port 8080 is taken inside by nginx";
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::FreeContainerPort}, end));
  known.subject = nullptr;
  known.forward->state = ForwardState::Waiting;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::StartContainer, {"web"}}, end));
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
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::StartServer}, Remedy{Code::EndForward, {"f2"}}));
  EXPECT_EQ(text("remedy"), "start the server, or end forward f2");
}

TEST_F(ExplainTest, ForAServerThatCannotBeDialledProposesToLeaveItOut) {
  ForwardInfo forward;
  forward.id = "f2";
  forward.state = ForwardState::Waiting;
  forward.host_addresses = {"127.0.0.1"};
  forward.reason = "the target leads back to this port";
  known.forward = forward;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::IgnorePort}, Remedy{Code::EndForward, {"f2"}}));
}

TEST_F(ExplainTest, AConflictNamesWhatWouldEndIt) {
  ForwardInfo forward;
  forward.state = ForwardState::Conflict;
  forward.reason = "port 8080 is held by python3";
  known.forward = forward;
  known.tried = {"127.0.0.1:8080: port 8080 is held by python3"};
  EXPECT_FALSE(std::get<bool>(fact("forwarded")));
  EXPECT_EQ(list("tried"), known.tried);
  EXPECT_THAT(remedies(),
              ElementsAre(Remedy{Code::FreeHostPort}, Remedy{Code::WidenFallbackRange}));
  rule("web");
  settings.rules[0].require_host_port = true;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::FreeHostPort}, Remedy{Code::AllowFallback}));
  known.forward->origin = Origin::Declared;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::FreeHostPort}, Remedy{Code::ChangeDeclaration}));
}

TEST_F(ExplainTest, NamesWhatElseThanAnotherHolderCausesAConflict) {
  ForwardInfo& forward = known.forward.emplace();
  forward.state = ForwardState::Conflict;
  forward.error = EADDRNOTAVAIL;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::ChooseBindAddress}));
  EXPECT_THAT(text("summary"), HasSubstr("is in conflict"));
  forward.error = EACCES;
  forward.origin = Origin::Declared;
  const Remedy change{Code::ChangeDeclaration};
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::ChooseHostPort},
                                      Remedy{Code::LowerUnprivilegedPort}, change));
  forward.error = kRemoteForbidden;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::AllowRemote}, change));
  forward.error = EMFILE;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::RaiseDescriptorLimit}, change));
  EXPECT_THAT(text("remedy"), HasSubstr("LimitNOFILE"));
  forward.direction = Direction::Reverse;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::RaiseDescriptorLimit}, change));
  forward.error = EACCES;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::FreeContainerPort}, change));
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
      EXPECT_EQ(remedies().front(), Remedy{Code::SetLoopbackUp}) << address << error;
      EXPECT_EQ(remedies().back() == Remedy{Code::CheckServer}, error == ETIMEDOUT);
    }
  }
  forward.error = ENETUNREACH;
  known.listeners.clear();
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::SetLoopbackUp}));
  EXPECT_THAT(text("remedy"), HasSubstr("ip link set lo up"));
  forward.container_address = "10.0.0.2";
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::SetInterfaceUp, {"10.0.0.2"}}));
  known.container.reach = AccessKind::Bridge;
  EXPECT_EQ(text("remedy").find("ip link"), std::string::npos) << "dialled from outside";
}

TEST_F(ExplainTest, SaysThatTheOtherProtocolIsOpen) {
  known.listeners.clear();
  known.other_protocol = true;
  EXPECT_EQ(text("protocol"), "tcp");
  EXPECT_THAT(list("seen").front(), HasSubstr("8080/udp"));
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::ExplainPort, {"web", "8080/udp"}},
                                      Remedy{Code::HoldPort, {"web", "8080"}}));
}

TEST_F(ExplainTest, SaysHowToAttachADetachedContainerAgain) {
  known.subject = nullptr;
  known.listeners.clear();
  known.ended.emplace().reason = "unforwarded";
  known.detached = true;
  EXPECT_EQ(text("decision"), "its container was detached");
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::AttachContainer, {"web"}}));
  EXPECT_THAT(list("seen").front(), HasSubstr("detached"));
  known.container.pid = 4711;
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::AttachProcess, {"4711", "web"}}));
  known.detached = false;
  EXPECT_EQ(text("decision"), "its container has ended");
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::StartContainer, {"web"}},
                                      Remedy{Code::HoldPortForMissing, {"web", "8080"}}));
}

TEST_F(ExplainTest, SaysWhereAForwardIsAndWhy) {
  ForwardInfo forward;
  forward.id = "f7";
  forward.host_addresses = {"127.0.0.1", "::1"};
  forward.host_port = 20000;
  forward.reason = "port 8080 is held by python3";
  known.forward = forward;
  EXPECT_EQ(text("host"), "127.0.0.1 and ::1, port 20000: port 8080 is held by python3");
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::EndForward, {"f7"}}));
  EXPECT_TRUE(std::get<bool>(fact("forwarded")));
}

TEST(Remedies, AreSentencesOfTheirArgumentsThatNameNoCommandLine) {
  for (const RemedyRow& row : kRemedies) {
    const std::vector<std::string> arguments{row.arguments, "web"};
    const std::string text = remedy_sentence({{row.code, arguments}});
    EXPECT_FALSE(text.empty()) << row.name;
    EXPECT_THAT(text, Not(HasSubstr("portfwdctl"))) << row.name;
    EXPECT_THAT(text, Not(HasSubstr("{"))) << row.name;
    EXPECT_EQ(remedy_code(row.name), row.code);
  }
  EXPECT_EQ(remedy_code("of-a-newer-daemon"), std::nullopt);
  EXPECT_EQ(remedy_sentence({{Code::StartServer}, {Code::EndForward, {"f2"}}}),
            "start the server, or end forward f2");
}

struct ExplainUnixTest : ExplainTest {
  ExplainUnixTest() { listen_on(UnixPath{"/run/app.sock"}); }
  /// Replaces the listeners by one with this name.
  void listen_on(const Address& name) {
    known.target = target_of(Protocol::Unix, name);
    SeenPort::Seen seen{.since = WallTime(std::chrono::seconds(1'700'000'000))};
    seen.listener.protocol = Protocol::Unix;
    seen.listener.local = name;
    seen.listener.type = SocketType::Seqpacket;
    seen.listener.backlog = 128;
    seen.listener.uid = 70;
    seen.listener.process = "postgres";
    known.listeners = {seen};
  }
  std::vector<std::string> all_texts() {
    std::vector<std::string> out;
    for (const auto& [key, value] : explain({settings, {}, metadata_policy}, known)) {
      if (const auto* one = std::get_if<std::string>(&value)) out.push_back(*one);
      if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
        out.insert(out.end(), list->begin(), list->end());
      }
      if (const auto* remedies = std::get_if<std::vector<Remedy>>(&value)) {
        for (const Remedy& remedy : *remedies) {
          out.insert(out.end(), remedy.arguments.begin(), remedy.arguments.end());
        }
      }
    }
    return out;
  }
};

TEST_F(ExplainUnixTest, SaysWhatWasSeenWhichKeyDecidedAndWhatWouldForwardIt) {
  EXPECT_THAT(list("seen"),
              ElementsAre("postgres listens on /run/app.sock (seqpacket, uid 70 inside, backlog "
                          "128), seen since 2023-11-14 22:13:20 UTC"));
  EXPECT_EQ(text("target"), "unix:/run/app.sock");
  EXPECT_EQ(text("protocol"), "unix");
  EXPECT_EQ(std::get<std::int64_t>(fact("port")), 0);
  EXPECT_THAT(text("decision"), HasSubstr("[unix] include"));
  EXPECT_THAT(text("summary"), HasSubstr("socket /run/app.sock of web is not forwarded"));
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::IncludeSocket, {"/run/app.sock"}},
                                      Remedy{Code::ForwardPort, {"web", "unix:/run/app.sock"}}));
}

TEST_F(ExplainUnixTest, SaysThatItsOwnerIsNotKnown) {
  known.listeners[0].listener.uid = kUnknownUid;
  known.listeners[0].listener.backlog = 0;
  EXPECT_THAT(list("seen"), ElementsAre(HasSubstr("(seqpacket, uid unknown)")));
}

TEST_F(ExplainUnixTest, NamesTheReasonWhyItCannotBeDialled) {
  known.listeners[0].listener.unreachable = "its path is relative";
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::MakeReachable, {"its path is relative"}}));
}

TEST_F(ExplainUnixTest, NamesTheRuleThatNamesIt) {
  rule("web");
  settings.rules[0].unix_names = {"/run/*"};
  EXPECT_THAT(list("rules"), ElementsAre("the rule at c.toml:1 matches"));
  settings.rules[0].unix_names = {"/tmp/*", "@x"};
  EXPECT_THAT(list("rules"),
              ElementsAre("the rule at c.toml:1 does not match: unix socket is \"/run/app.sock\", "
                          "not \"/tmp/*\", \"@x\""));
}

TEST_F(ExplainUnixTest, SaysThatNothingListens) {
  known.listeners.clear();
  EXPECT_THAT(list("seen"), ElementsAre("nothing listens on it inside"));
  EXPECT_THAT(remedies(), ElementsAre(Remedy{Code::HoldPort, {"web", "unix:/run/app.sock"}}));
}

TEST_F(ExplainUnixTest, IsPrintableWhateverTheNameIs) {
  rule("web");
  settings.rules[0].unix_names = {"/tmp/*"};
  for (const std::string name : {"/run/\n\x1b[31m", "/run/\xff\xfe", "/run/\xe2\x80\xae", "\x01",
                                 "@", "/%s{}{0}", "/'\"`$(x)"}) {
    for (const Address& at : {Address(UnixPath{name}), Address(AbstractName{name + '\0'})}) {
      listen_on(at);
      for (const bool listens : {true, false}) {
        if (!listens) known.listeners.clear();
        for (const std::string& one : all_texts()) EXPECT_EQ(one, printable(one));
      }
    }
  }
}

}  // namespace
}  // namespace portfwd
