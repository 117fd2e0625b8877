// What portfwdctl shows to people, and how it finds the thing they mean.
#include <gtest/gtest.h>

#include "base/text.h"
#include "ctl/facts_text.h"
#include "ctl/failure.h"
#include "ctl/objects.h"
#include "ctl/tables.h"

namespace portfwd::ctl {
namespace {

Object forward(const std::string& id, const std::string& container, unsigned port,
               unsigned host_port) {
  return {"/org/portfwd1/forward/" + id,
          {{"id", id},
           {"container", {{"id", "id-" + container}, {"name", container}, {"engine", "podman"}}},
           {"protocol", "tcp"},
           {"direction", "in"},
           {"container_port", port},
           {"host_addresses", {"127.0.0.1", "::1"}},
           {"host_port", host_port},
           {"origin", "auto"},
           {"state", "active"},
           {"reason", ""},
           {"label", ""},
           {"process", "nginx"},
           {"connections", {{"active", 0}, {"total", 12}}}}};
}

std::string failure_of(const std::function<void()>& doing) {
  try {
    doing();
  } catch (const Failure& failure) {
    return failure.what();
  }
  return "";
}

TEST(CtlTablesTest, ForwardsAreAlignedAndEmptyColumnsLeftOut) {
  auto second = forward("f10", "database", 5432, 0);
  second.value["host_addresses"] = Json::array();
  second.value["state"] = "conflict";
  second.value["process"] = "";
  second.value["reason"] = "5432 is held by postgres";
  EXPECT_EQ(forwards_table({forward("f1", "web", 80, 8080), second}, false),
            "HOST            CONTAINER  PORT  PROCESS  STATE     ORIGIN  CONN  ID   NOTE\n"
            "localhost:8080  web        80    nginx    active    auto    0/12  f1\n"
            "-               database   5432           conflict  auto    0/12  f10  5432 is held "
            "by postgres\n");
  EXPECT_EQ(forwards_table({}, false), "no forwards\n");
}

TEST(CtlTablesTest, OneAddressIsShownAsItIs) {
  auto one = forward("f1", "web", 53, 5353);
  one.value["host_addresses"] = {"::1"};
  one.value["protocol"] = "udp";
  EXPECT_EQ(forward_text(one.value), "[::1]:5353 -> web:53/udp");
  one.value["host_addresses"] = {"127.0.0.2"};
  one.value["direction"] = "reverse";
  EXPECT_EQ(forward_text(one.value), "127.0.0.2:5353 <- web:53/udp");
}

TEST(CtlTablesTest, ColourIsOnlyAddedWhenAsked) {
  const std::vector<Object> forwards{forward("f1", "web", 80, 8080)};
  EXPECT_EQ(forwards_table(forwards, false).find('\x1b'), std::string::npos);
  EXPECT_NE(forwards_table(forwards, true).find("\x1b[32mactive\x1b[0m"), std::string::npos);
}

TEST(CtlTablesTest, ANameDoesNotSpeakToTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb\tc\x7f"), "a?[2Jb?c?");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "?31m");  // U+009B is a CSI to some terminals
  EXPECT_EQ(printable("\xc3\xa9t\xc3\xa9"), "\xc3\xa9t\xc3\xa9");
  auto hostile = forward("f1", "x\x1b]0;owned\x07", 80, 8080);
  EXPECT_EQ(forwards_table({hostile}, false).find('\x1b'), std::string::npos);
}

TEST(CtlFactsTest, StatusListsFactsUnderTheirNamesWithTheirUnits) {
  const Json facts = {{"zeal", 1},
                      {"version", "0.1"},
                      {"exec_hints", true},
                      {"memory_bytes", 7864320},
                      {"poll_interval_usec", 20000},
                      {"uptime_seconds", 3900.5},
                      {"kernel_facilities", {"sock_diag", "proc\x1b"}},
                      {"mistakes", Json::array()}};
  EXPECT_EQ(status_text(facts, false),
            "version            0.1\n"
            "uptime             1 h 5 min\n"
            "zeal               1\n"
            "exec hints         yes\n"
            "memory             7.5 MiB\n"
            "poll interval      20 ms\n"
            "kernel facilities  sock_diag\n"
            "                   proc?\n");
}

TEST(CtlFactsTest, AnExplanationBeginsWithItsSummary) {
  const Json facts = {{"container", "web"},        {"forwarded", false},
                      {"host", "nobody holds it"}, {"seen", Json::array()},
                      {"summary", "no"},           {"decision", "[ports] excludes it"}};
  EXPECT_EQ(explanation(facts, false),
            "no\ndecision  [ports] excludes it\nhost      nobody holds it\n");
}

TEST(CtlFactsTest, AShortageOfDescriptorsIsALine) {
  EXPECT_EQ(shortage_line({{"forwards", 1}}), "");
  EXPECT_EQ(shortage_line({{"descriptor_shortage", "none"}}), "");
  EXPECT_EQ(shortage_line({{"descriptor_shortage", "all wait"}, {"descriptor_remedy", "raise it"}}),
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

TEST(CtlTablesTest, AnEventIsOneLine) {
  const Json event = {{"seq", 3},
                      {"time", "2026-01-01T12:00:00.000000Z"},
                      {"type", "PortRemoved"},
                      {"reason", "container-gone"},
                      {"forward", forward("f1", "web", 80, 8080).value}};
  const std::string line = event_line(event, false);
  EXPECT_TRUE(
      line.ends_with("#3     PortRemoved       localhost:8080 -> web:80  (container-gone)\n"))
      << line;
  const Json gap = {{"seq", 4}, {"time", ""}, {"type", "Gap"}, {"reason", ""}};
  EXPECT_TRUE(event_line(gap, false).ends_with("events were lost here\n"));
}

TEST(CtlObjectsTest, AForwardIsMeantByIdThenHostPortThenContainerAndPort) {
  const std::vector<Object> forwards{forward("8080", "web", 80, 9000),
                                     forward("f2", "db", 5432, 8080)};
  EXPECT_EQ(pick_forward(forwards, "8080").value["id"], "8080") << "an id comes first";
  EXPECT_EQ(pick_forward(forwards, "9000").value["id"], "8080");
  EXPECT_EQ(pick_forward(forwards, "db:5432").value["id"], "f2");
  EXPECT_EQ(pick_forward(forwards, "id-d:5432").value["id"], "f2");
  EXPECT_EQ(failure_of([&] { static_cast<void>(pick_forward(forwards, "db:80")); }),
            "no forward 'db:80'; see `portfwdctl list`");
  EXPECT_NE(failure_of([&] { static_cast<void>(pick_forward(forwards, "")); }), "");
  EXPECT_NE(failure_of([&] { static_cast<void>(pick_forward(forwards, ":80")); }), "");
}

TEST(CtlObjectsTest, AnAmbiguousWordNamesTheIds) {
  std::vector<Object> forwards{forward("f1", "web", 80, 8080), forward("r1", "db", 5432, 8080)};
  forwards[1].value["direction"] = "reverse";
  EXPECT_EQ(failure_of([&] { static_cast<void>(pick_forward(forwards, "8080")); }),
            "'8080' means several forwards; name one by its id: f1 (localhost:8080 -> web:80), "
            "r1 (localhost:8080 <- db:5432)");
}

TEST(CtlObjectsTest, AContainerIsMeantByIdNameOrBeginningOfItsId) {
  const std::vector<Object> containers{{"/1", {{"id", "abc1"}, {"name", "web"}}},
                                       {"/2", {{"id", "abd2"}, {"name", "abc1"}}},
                                       {"/3", {{"id", "ffff"}, {"name", "web"}}}};
  EXPECT_EQ(pick_container(containers, "abc1").path, "/1");
  EXPECT_EQ(pick_container(containers, "abd").path, "/2");
  EXPECT_NE(
      failure_of([&] { static_cast<void>(pick_container(containers, "web")); }).find("abc1, ffff"),
      std::string::npos);
  EXPECT_NE(
      failure_of([&] { static_cast<void>(pick_container(containers, "ab")); }).find("several"),
      std::string::npos);
  EXPECT_NE(
      failure_of([&] { static_cast<void>(pick_container(containers, "")); }).find("no container"),
      std::string::npos);
}

}  // namespace
}  // namespace portfwd::ctl
