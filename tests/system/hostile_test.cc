// Containers with false and harmful facts about themselves: whatever their names are, the output
// for users and programs is valid and harmless text, and other containers are served.
#include <regex>

#include "support/hanging_fuse.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

class SystemHostile : public SystemTest {
 protected:
  /// Whether it has no control, bidi or invisible character. Written from the requirement,
  /// independent of the code.
  static bool harmless(std::string_view text) {
    static const std::regex kHidden(
        "[\x01-\x1f\x7f]|\xc2[\x80-\x9f]|\xd8\x9c|\xe2\x80[\x8b-\x8f\xa8-\xae]|"
        "\xe2\x81[\xa0-\xa9]|\xef\xbb\xbf",
        std::regex::optimize);
    return text.find('\0') == text.npos && !std::regex_search(text.begin(), text.end(), kHidden);
  }
  /// The same for text of several lines.
  static bool harmless_lines(std::string text) {
    std::erase(text, '\n');
    return harmless(text);
  }
  void expect_harmless_everywhere() {
    for (const char* command : {"list", "events", "status"}) {
      EXPECT_TRUE(harmless_lines(ctl({"--json", command}).out)) << command;
    }
    EXPECT_TRUE(harmless_lines(ctl({"--json", "containers", "--all"}).out));
    EXPECT_TRUE(harmless_lines(ctl({"--json", "explain", "9000"}).out));
    EXPECT_TRUE(harmless_lines(ctl({"explain", "9000"}).out));
    for (const Json& container : json({"containers", "--all"})) {
      EXPECT_TRUE(harmless(container.at("name").get<std::string>())) << container.dump(1);
      EXPECT_LE(container.at("name").get<std::string>().size(), 64U);
      for (const Json& listener : container.at("listeners")) {
        EXPECT_TRUE(harmless(listener.at("process").get<std::string>())) << listener.dump(1);
      }
    }
    EXPECT_TRUE(harmless_lines(ctl({"list"}).out));
    EXPECT_TRUE(harmless_lines(ctl({"containers", "--all"}).out));
    EXPECT_TRUE(harmless_lines(ctl({"events"}).out));
    EXPECT_TRUE(harmless_lines(daemon_->err())) << daemon_->err();
    const auto lines = static_cast<int>(std::ranges::count(daemon_->err(), '\n'));
    EXPECT_EQ(lines_with("portfwd: "), lines) << daemon_->err();
  }
};

TEST_F(SystemHostile, NamesOfProgramsAreShownHarmlessly) {
  start();
  const std::array<std::string_view, 12> kNames{
      "\u202Eevil\u2066",
      "a\u200B\u061Cb\uFEFF\u200E",
      "two\nlines",
      "\x1b[31mred\x1b[0m",
      "\xff\xfe\xc3(",
      "\xed\xa0\x80 half",
      "libpod",
      "portfwd",
      "%s%n%d",
      "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe5\xad\x97\xe5",
      "(x) S 1",
      "\xc2\x9b"
      "31m"};
  std::list<Box> boxes;
  Port port = 9000;
  for (const std::string_view name : kNames) {
    const Box& box = boxes.emplace_back();
    box.call_itself(name);
    ASSERT_EQ(box.open(port), 0);
    ASSERT_TRUE(wait_for_added(port)) << name;
    EXPECT_EQ(greeting({kV4, port}), std::to_string(port) + " here\n") << name;
    ++port;
  }
  EXPECT_EQ(forward_of(9000)["process"], "?evil?");
  EXPECT_EQ(forward_of(9002)["process"], "two?lines");
  EXPECT_EQ(forward_of(9006)["process"], "libpod");
  EXPECT_EQ(forward_of(9010)["process"], "(x) S 1");
  expect_harmless_everywhere();
}

/// The process holds the lock of its memory map forever, so that reading its command line blocks.
TEST_F(SystemHostile, ServesOthersWhileAProcessOfASandboxCannotBeRead) {
  Box box;
  ASSERT_EQ(box.open(9100), 0);
  const HangingFuse hanging(HangingFuse::What::MemoryMap);
  start();
  ASSERT_TRUE(wait_for_added(9100));
  EXPECT_EQ(greeting({kV4, 9100}), "9100 here\n");
  const HangingFuse later(HangingFuse::What::MemoryMap);
  ASSERT_TRUE(wait_for_container(later.pid()));
  ASSERT_EQ(box.open(9101), 0);
  ASSERT_TRUE(wait_for_added(9101));
  EXPECT_EQ(greeting({kV4, 9101}), "9101 here\n");
}

/// Executes a shell with arguments and environment as if an engine had started it.
int pretend(BoxInside&, const BoxArgument& a) {
  if (::fork() != 0) return 0;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string host = "HOSTNAME=" + std::string(a.text.data());
  const std::string name = "--name=" + std::string(a.text.data());
  const std::string id = "--cid=" + std::string(64, 'a');
  ::execle("/bin/sh", "conmon", "-c", "kill -STOP $$", name.c_str(), id.c_str(), nullptr,
           std::array<const char*, 3>{host.c_str(), "container=\x1b]0;engine\x07", nullptr}.data());
  ::_exit(127);
}

TEST_F(SystemHostile, ClaimsAboutHostNameAndEngineAreShownHarmlessly) {
  start();
  const std::array<std::string, 5> kClaims{std::string(500, 'x'), "\xff\xfe\n\x1b[2J",
                                           "../../etc/passwd", "web\nportfwd: lies",
                                           "\u202Eevil\u200D\u0085"};
  Port port = 9000;
  std::list<Box> boxes;
  for (const std::string& claim : kClaims) {
    const Box& box = boxes.emplace_back();
    BoxArgument argument;
    claim.copy(argument.text.data(), argument.text.size() - 1);
    box.tell(pretend, argument);
    ASSERT_EQ(box.open(port), 0);
    ASSERT_TRUE(wait_for_added(port)) << claim;
    ++port;
  }
  expect_harmless_everywhere();
}

TEST_F(SystemHostile, ShowsNamesFromUsersHarmlessly) {
  start();
  const Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  ASSERT_EQ(ctl({"attach", "--pid", std::to_string(box.pid()), "--name", "a\x1b[2Jb\nc"}).status,
            0);
  const std::string id = container_of(box.pid())["id"];
  ASSERT_EQ(ctl({"forward", id, "9000", "--label", "a\x1b[2Jb\nc\u202E\u009B"}).status, 0);
  expect_harmless_everywhere();
  EXPECT_EQ(ctl({"forward", "\x1b[2J\n", "9000"}).status, 1);
  EXPECT_EQ(ctl({"explain", "no\x1b[2J\n", "9000"}).status, 1);
  expect_harmless_everywhere();
}

TEST_F(SystemHostile, RejectsRequestsWithLongTexts) {
  start();
  const Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  const std::string pid = std::to_string(box.pid());
  const std::string most(256, 'x');
  const std::string more(257, 'x');
  ASSERT_EQ(ctl({"attach", "--pid", pid, "--name", "web"}).status, 0);
  ASSERT_EQ(ctl({"forward", "web", "9000", "--label", most, "--persist"}).status, 0);
  EXPECT_EQ(ctl({"forward", most, "9001", "--allow-missing"}).status, 0);
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"forward", "web", "9002", "--label", more},
                                             {"forward", more, "9002", "--allow-missing"},
                                             {"forward", "web", "9002", "--bind", more},
                                             {"forward", "web", "9002", "--address", more},
                                             {"attach", "--pid", pid, "--name", more},
                                             {"explain", more, "9002"}}) {
    const Said said = ctl(command);
    EXPECT_EQ(said.status, 1) << command[0];
    EXPECT_NE(said.err.find("256"), std::string::npos) << said.err;
  }
  EXPECT_EQ(json({"list"}).size(), 2U);
}

}  // namespace
}  // namespace portfwd
