// Output of portfwdctl as text and as JSON, and the lookup of the object that an argument names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/text.h"
#include "ctl/commands.h"
#include "ctl/text.h"

namespace portfwd::ctl {
namespace {

using client::Container;
using client::Event;
using client::Facts;
using client::Forward;
using testing::HasSubstr;

Forward forward(const std::string& id, const std::string& container, Port port, Port host_port) {
  Forward f;
  f.path = "/org/portfwd1/forward/" + id;
  f.id = id;
  f.container_id = "id-" + container;
  f.container_name = container;
  f.container_engine = "podman";
  f.protocol = "tcp";
  f.direction = "in";
  f.container_port = port;
  f.target = std::to_string(port);
  f.host_addresses = {"127.0.0.1", "::1"};
  f.host_port = host_port;
  f.origin = "auto";
  f.state = "active";
  f.process = "nginx";
  f.connections_total = 12;
  return f;
}

Container container(const std::string& id, const std::string& name) {
  Container c;
  c.id = id;
  c.name = name;
  return c;
}

std::string message_of(const std::function<void()>& doing) {
  try {
    doing();
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "";
}

TEST(CtlTextTest, ForwardsAreAlignedAndEmptyColumnsLeftOut) {
  auto second = forward("f10", "database", 5432, 0);
  second.host_addresses.clear();
  second.state = "conflict";
  second.process = "";
  second.reason = "5432 is held by postgres";
  EXPECT_EQ(forwards_table({forward("f1", "web", 80, 8080), second}, false),
            "HOST            CONTAINER  PORT  PROCESS  STATE     ORIGIN  CONN  ID   NOTE\n"
            "localhost:8080  web        80    nginx    active    auto    0/12  f1\n"
            "-               database   5432           conflict  auto    0/12  f10  5432 is held "
            "by postgres\n");
  EXPECT_EQ(forwards_table({}, false), "no forwards\n");
}

TEST(CtlTextTest, OneAddressIsShownAsItIs) {
  auto one = forward("f1", "web", 53, 5353);
  one.host_addresses = {"::1"};
  one.protocol = "udp";
  one.target = "53/udp";
  EXPECT_EQ(forward_text(one), "[::1]:5353 -> web:53/udp");
  one.host_addresses = {"127.0.0.2"};
  one.direction = "reverse";
  EXPECT_EQ(forward_text(one), "127.0.0.2:5353 <- web:53/udp");
}

TEST(CtlTextTest, ColourIsOnlyAddedWhenAsked) {
  const std::vector<Forward> forwards{forward("f1", "web", 80, 8080)};
  EXPECT_EQ(forwards_table(forwards, false).find('\x1b'), std::string::npos);
  EXPECT_NE(forwards_table(forwards, true).find("\x1b[32mactive\x1b[0m"), std::string::npos);
}

TEST(CtlTextTest, ReplacesControlCharactersInNames) {
  EXPECT_EQ(printable("a\x1b[2Jb\tc\x7f"), "a?[2Jb?c?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "?31m");  // some terminals interpret U+009B as CSI
  EXPECT_EQ(printable("\xc3\xa9t\xc3\xa9"), "\xc3\xa9t\xc3\xa9");
  auto hostile = forward("f1", "x\x1b]0;owned\x07", 80, 8080);
  EXPECT_EQ(forwards_table({hostile}, false).find('\x1b'), std::string::npos);
}

TEST(CtlFactsTest, StatusListsFactsUnderTheirNamesWithTheirUnits) {
  const client::Status status{
      .facts = {{"zeal", std::uint64_t{1}},
                {"version", "0.1"},
                {"exec_hints", true},
                {"memory_bytes", std::int64_t{7864320}},
                {"poll_interval_usec", std::uint64_t{20000}},
                {"uptime_seconds", 3900.5},
                {"kernel_facilities", std::vector<std::string>{"sock_diag", "proc\x1b"}},
                {"of_a_newer_daemon", std::monostate()},
                {"mistakes", std::vector<std::string>{}}}};
  EXPECT_EQ(status_text(status, false),
            "version            0.1\n"
            "uptime             1 h 5 min\n"
            "exec hints         yes\n"
            "kernel facilities  sock_diag\n"
            "                   proc?\n"
            "memory             7.5 MiB\n"
            "poll interval      20 ms\n"
            "zeal               1\n");
}

TEST(CtlFactsTest, AnExplanationBeginsWithItsSummary) {
  const client::Explanation explanation{.summary = "no",
                                        .facts = {{"container", "web"},
                                                  {"forwarded", false},
                                                  {"host", "nobody holds it"},
                                                  {"seen", std::vector<std::string>{}},
                                                  {"summary", "no"},
                                                  {"decision", "[ports] excludes it"}}};
  EXPECT_EQ(explanation_text(explanation, false),
            "no\ndecision  [ports] excludes it\nhost      nobody holds it\n");
}

client::Explanation explanation_with(std::vector<client::Remedy> remedies) {
  return {.remedy = "a sentence", .remedies = std::move(remedies)};
}

TEST(CtlRemedyTest, IsWordedAsACommandLine) {
  using Code = RemedyCode;
  const auto worded = [](Code code, std::vector<std::string> arguments) {
    return remedy_text(explanation_with(
        {{.name = std::string(row_of(code).name), .code = code, .arguments = arguments}}));
  };
  EXPECT_EQ(worded(Code::HoldPort, {"web", "8080"}),
            "hold the port with `portfwdctl forward web 8080`");
  EXPECT_EQ(worded(Code::HoldPortForMissing, {"web", "8080"}),
            "hold the port with `portfwdctl forward web 8080 --allow-missing`");
  EXPECT_EQ(worded(Code::ForwardPort, {"web", "8080"}),
            "forward it with `portfwdctl forward web 8080`");
  EXPECT_EQ(worded(Code::EndForward, {"f2"}), "end the forward with `portfwdctl unforward f2`");
  EXPECT_EQ(worded(Code::ExplainPort, {"web", "53/udp"}), "see `portfwdctl explain web 53/udp`");
  EXPECT_NE(worded(Code::AttachContainer, {"web"}).find("attach --pid PID --name web"),
            std::string::npos);
  EXPECT_EQ(worded(Code::AttachProcess, {"4711", "web"}),
            "attach it with `portfwdctl attach --pid 4711 --name web`");
  EXPECT_NE(worded(Code::AllowRemote, {}).find("`portfwdctl reload`"), std::string::npos);
  EXPECT_EQ(worded(Code::MakeReachable, {"let it listen on 0.0.0.0"}), "let it listen on 0.0.0.0");
}

TEST(CtlRemedyTest, HasWordsForEachCode) {
  for (const RemedyRow& row : kRemedies) {
    const std::string text = remedy_text(explanation_with(
        {{std::string(row.name), row.code, std::vector<std::string>(row.arguments, "web")}}));
    EXPECT_NE(text, "") << row.name;
    EXPECT_NE(text, "a sentence") << row.name;
    EXPECT_EQ(text.find('{'), std::string::npos) << row.name;
  }
}

TEST(CtlRemedyTest, QuotesWhatAShellWouldInterpret) {
  const client::Remedy end{"end-forward", RemedyCode::EndForward, {"a'b; c\x1b"}};
  EXPECT_EQ(remedy_text(explanation_with({end})),
            R"(end the forward with `portfwdctl unforward 'a'\''b; c?'`)");
}

TEST(CtlRemedyTest, IsTheSentenceOfTheDaemonIfACodeIsUnknown) {
  const client::Remedy known{"start-server", RemedyCode::StartServer, {}};
  const client::Remedy unknown{"of-a-newer-daemon", {}, {}};
  EXPECT_EQ(remedy_text(explanation_with({known, unknown})), "a sentence");
  EXPECT_EQ(remedy_text(explanation_with({})), "a sentence") << "of an older daemon";
}

TEST(CtlRemedyTest, IsInJsonAsWordsAndAsCodes) {
  const Json out = to_json(explanation_with({{"start-server", RemedyCode::StartServer, {}},
                                             {"end-forward", RemedyCode::EndForward, {"f2"}}}));
  EXPECT_EQ(out["remedy"], "start the server, or end the forward with `portfwdctl unforward f2`");
  EXPECT_EQ(
      out["remedies"].dump(),
      R"([{"code":"start-server","arguments":[]},{"code":"end-forward","arguments":["f2"]}])");
}

TEST(CtlFailureTest, ARefusalGetsAHintForItsErrorAndCommand) {
  const auto message = [](const std::string& name, std::string_view command) {
    return std::string(
        failure_of({client::Error::Kind::Refused, "no", "org.portfwd1.Error." + name}, command)
            .what());
  };
  EXPECT_EQ(message("NoSuchForward", "unforward"), "no; `portfwdctl list` shows the forwards");
  EXPECT_NE(message("NoSuchContainer", "forward").find("`portfwdctl attach`"), std::string::npos);
  EXPECT_EQ(message("NoSuchContainer", "explain").find("`portfwdctl attach`"), std::string::npos);
  EXPECT_NE(message("NoSuchContainer", "explain").find("containers --all"), std::string::npos);
  EXPECT_NE(message("LimitExceeded", "forward").find("unforward"), std::string::npos);
  EXPECT_EQ(message("LimitExceeded", "explain"), "no");
  EXPECT_EQ(message("PortInUse", "forward"), "no");
}

TEST(CtlFailureTest, ADaemonThatIsSlowOrCannotBeStartedGetsAHintOfItsOwn) {
  const auto message = [](const std::string& name) {
    return std::string(failure_of({client::Error::Kind::NoAnswer, "no", name}, "list").what());
  };
  EXPECT_THAT(message("org.freedesktop.DBus.Error.ServiceUnknown"), HasSubstr("--user start"));
  EXPECT_THAT(message("org.freedesktop.DBus.Error.Timeout"), HasSubstr("--timeout"));
  EXPECT_THAT(message("System.Error.ETIMEDOUT"), HasSubstr("--timeout"));
  EXPECT_THAT(message("org.freedesktop.DBus.Error.Spawn.ChildExited"), HasSubstr("--user status"));
}

TEST(CtlFactsTest, AShortageOfDescriptorsIsALine) {
  EXPECT_EQ(shortage_line({}), "");
  EXPECT_EQ(shortage_line({.descriptor_shortage = "none"}), "");
  EXPECT_EQ(shortage_line({.descriptor_shortage = "all wait", .descriptor_remedy = "raise it"}),
            "the daemon is short of file descriptors (all wait): raise it\n");
}

TEST(CtlFactsTest, SizesAndSpansAreRounded) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(span_text(0.000044), "44 µs");
  EXPECT_EQ(span_text(1.5), "1.5 s");
  EXPECT_EQ(span_text(61), "1 min 1 s");
  EXPECT_EQ(span_text(200000), "2 d 7 h");
}

TEST(CtlTextTest, ATableShowsPortsAndTheFirstUnixSockets) {
  Container web = container("c1", "web");
  web.listeners = {{.protocol = "tcp", .port = 80}, {.protocol = "udp", .port = 53}};
  for (int i = 0; i < 6; ++i) {
    web.listeners.push_back({.protocol = "unix", .path = "/run/a\n" + std::to_string(i)});
  }
  const std::string table = containers_table({web}, false);
  EXPECT_THAT(table, HasSubstr("80 53/udp unix:/run/a?0 unix:/run/a?1"));
  EXPECT_THAT(table, HasSubstr("unix:/run/a?3 (+2)"));
}

TEST(CtlTextTest, AnEventIsOneLine) {
  const Event event{.seq = 3,
                    .type = "PortRemoved",
                    .reason = "container-gone",
                    .subject = forward("f1", "web", 80, 8080)};
  const std::string line = event_line(event, false);
  EXPECT_TRUE(
      line.ends_with("#3     PortRemoved       localhost:8080 -> web:80  (container-gone)\n"))
      << line;
  const Event gap{.seq = 4, .type = "Gap"};
  EXPECT_TRUE(event_line(gap, false).ends_with("events were lost here\n"));
}

TEST(CtlJsonTest, AGapHasNoObjectAndAnEventOfAContainerNoLists) {
  EXPECT_EQ(to_json(Event{.seq = 4, .type = "Gap"}).dump(),
            R"({"seq":4,"time":"1970-01-01T00:00:00.000000Z","type":"Gap","reason":""})");
  const Json added = to_json(Event{.type = "ContainerAdded", .subject = container("c1", "web")});
  EXPECT_EQ(added["container"]["name"], "web");
  EXPECT_FALSE(added["container"].contains("listeners"));
}

TEST(CtlJsonTest, AFactKeepsItsTypeAndAnUnknownOneIsNull) {
  const Facts facts{{"a", true}, {"b", 0.5}, {"c", std::vector<std::string>{"x"}}, {"d", {}}};
  EXPECT_EQ(to_json(facts).dump(), R"({"a":true,"b":0.5,"c":["x"],"d":null})");
}

TEST(CtlObjectsTest, FindsAForwardByIdThenHostPortThenContainerAndPort) {
  const std::vector<Forward> forwards{forward("8080", "web", 80, 9000),
                                      forward("f2", "db", 5432, 8080)};
  EXPECT_EQ(pick_forward(forwards, "8080").id, "8080") << "an id comes first";
  EXPECT_EQ(pick_forward(forwards, "9000").id, "8080");
  EXPECT_EQ(pick_forward(forwards, "db:5432").id, "f2");
  EXPECT_EQ(pick_forward(forwards, "id-d:5432").id, "f2");
  EXPECT_EQ(message_of([&] { static_cast<void>(pick_forward(forwards, "db:80")); }),
            "there is no forward 'db:80'; see `portfwdctl list`");
  EXPECT_NE(message_of([&] { static_cast<void>(pick_forward(forwards, "")); }), "");
  EXPECT_NE(message_of([&] { static_cast<void>(pick_forward(forwards, ":80")); }), "");
}

TEST(CtlObjectsTest, NamesTheIdsOfAnAmbiguousWord) {
  std::vector<Forward> forwards{forward("f1", "web", 80, 8080), forward("r1", "db", 5432, 8080)};
  forwards[1].direction = "reverse";
  EXPECT_EQ(message_of([&] { static_cast<void>(pick_forward(forwards, "8080")); }),
            "'8080' is ambiguous; use one of: f1 (localhost:8080 -> web:80), "
            "r1 (localhost:8080 <- db:5432)");
}

TEST(CtlObjectsTest, FindsAContainerByIdNameOrPrefixOfItsId) {
  const std::vector<Container> containers{container("abc1", "web"), container("abd2", "abc1"),
                                          container("ffff", "web")};
  EXPECT_EQ(pick_container(containers, "abc1").id, "abc1");
  EXPECT_EQ(pick_container(containers, "abd").id, "abd2");
  EXPECT_NE(
      message_of([&] { static_cast<void>(pick_container(containers, "web")); }).find("abc1, ffff"),
      std::string::npos);
  EXPECT_NE(
      message_of([&] { static_cast<void>(pick_container(containers, "ab")); }).find("ambiguous"),
      std::string::npos);
  EXPECT_NE(
      message_of([&] { static_cast<void>(pick_container(containers, "")); }).find("no container"),
      std::string::npos);
}

}  // namespace
}  // namespace portfwd::ctl
