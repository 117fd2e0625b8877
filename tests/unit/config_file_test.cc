// Parsing of portfwd.toml, and errors with their positions.
#include "config/config_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "config/value_readers.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

std::expected<Settings, Mistakes> read_files(const std::vector<std::filesystem::path>& files) {
  UserNames users;
  return read_config(files, users);
}

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

std::vector<std::string> mistakes_of(std::string_view text) {
  const auto read = parse_config(text, "c.toml");
  std::vector<std::string> out;
  if (!read) {
    for (const Mistake& m : read.error()) out.push_back(m.message());
  }
  return out;
}

TEST(Config, AnEmptyFileMeansTheDefaults) {
  const auto read = parse_config("", "c.toml");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->host.linger, 2s);
  EXPECT_FALSE(read->detect.interval);
}

TEST(Config, ReadsEveryKeyOfTheDocumentedExample) {
  const auto read = parse_config(R"(
[detect]
interval = "250ms"
min_interval = "10ms"
max_interval = "2s"
cpu_budget = 1
udp = false
[host]
bind = "127.0.0.5"
allow_remote = false
restrict_to_user = false
allocation = "same-port"
fallback_range = "30000-30010"
avoid = [3000, "5000-5010"]
sticky = false
linger = "0s"
hold = "1min"
drain = "1s"
connect_timeout = "3s"
max_forwards = 7
max_connections = 9
[ports]
include = ["1-65535"]
exclude = [22]
ignore_addresses = ["::1"]
on_auto_forward = "silent"
[unix]
include = ["/run/*.sock", "@app"]
exclude = ["/run/admin.sock"]
max_sockets = 32
)",
                                 "c.toml");
  ASSERT_TRUE(read) << read.error().front().message();
  EXPECT_EQ(read->unix_sockets.include, (std::vector<std::string>{"/run/*.sock", "@app"}));
  EXPECT_EQ(read->unix_sockets.exclude, std::vector<std::string>{"/run/admin.sock"});
  EXPECT_EQ(read->unix_sockets.max_sockets, 32U);
  EXPECT_EQ(read->detect.interval, 250ms);
  EXPECT_EQ(read->detect.cpu_budget, 1.0);
  EXPECT_EQ(read->host.bind.only, IpAddress::v4(127, 0, 0, 5));
  EXPECT_EQ(read->host.avoid, (std::vector<PortRange>{{3000, 3000}, {5000, 5010}}));
  EXPECT_EQ(read->host.hold, 1min);
  EXPECT_EQ(read->host.max_forwards, 7U);
  EXPECT_EQ(read->ports.ignore_addresses, std::vector{IpAddress::loopback(Family::V6)});
}

TEST(Config, EveryMistakeOfAFileIsShownAtOnceWithItsPlace) {
  EXPECT_THAT(mistakes_of("[host]\nlingre = \"2s\"\nhold = 5\n[prots]\n"),
              ElementsAre("c.toml:2:1: unknown key \"lingre\"; did you mean \"linger\"?",
                          "c.toml:3:8: expected a duration such as \"250ms\", \"2s\" or \"1min\", "
                          "at most \"24h\"",
                          "c.toml:4:2: unknown section \"prots\"; did you mean \"ports\"?"));
}

TEST(Config, AKeyOutsideOfASectionIsNotTakenForASection) {
  EXPECT_THAT(mistakes_of("udp = true\n"),
              ElementsAre(HasSubstr("c.toml:1:1: key \"udp\" is in no section")));
}

TEST(Config, ABrokenFileNamesLineAndColumn) {
  EXPECT_THAT(mistakes_of("[host\n"), ElementsAre(HasSubstr("c.toml:1:6: ")));
  EXPECT_THAT(mistakes_of("[[#"), ElementsAre(HasSubstr("c.toml:1:3: ")));
  EXPECT_THAT(mistakes_of("[host]\nhold = \"1s\"\xef\xbb\x9f"),
              ElementsAre(HasSubstr("c.toml:2:")));
}

TEST(Config, WhatAMistakeQuotesIsFitToBeShown) {
  EXPECT_THAT(mistakes_of("[host]\n\"a\\n\\u001b[2J\" = 1"),
              ElementsAre("c.toml:2:1: unknown key \"a??[2J\""));
}

TEST(Config, RefusesValuesOutOfRange) {
  for (const char* text : {"[detect]\ncpu_budget = 0",
                           "[detect]\ninterval = \"0s\"",
                           "[host]\nbind = \"0.0.0.0\"",
                           "[host]\navoid = [0]",
                           "[host]\navoid = [65536]",
                           "[host]\navoid = [\"9-1\"]",
                           "[host]\nmax_forwards = -1",
                           "[ports]\nexclude = 22",
                           "[ports]\non_auto_forward = \"shout\"",
                           "host = 1",
                           "[rule]\nports = [1]",
                           "rule = [1]",
                           "[[rule]]\nports = []",
                           "[[rule]]\nprocess = \"(\"",
                           "[[rule]]\nlabel = 1",
                           "[[rule]]\nhost_port = 1",
                           "[[rule]]\nports = [80]\nhost_port = 0",
                           "[[rule]]\nports = [\"1-2\"]\nhost_port = 65535",
                           "[[rule]]\nscheme = \"ftp\"",
                           "[[rule]]\nallow_users = [\"nobody-of-this-name\"]",
                           "[[rule]]\nallow_users = [-1]",
                           "[[rule]]\nlabels = {a = 1}",
                           "[[rule]]\nsettle = 300",
                           "[[rule]]\nbind = \"::\"",
                           "[unix]\ninclude = \"/run/a\"",
                           "[unix]\ninclude = [\"run/a\"]",
                           "[unix]\ninclude = [\"@\"]",
                           "[unix]\ninclude = [\"/a\\u0000b\"]",
                           "[unix]\nexclude = [1]",
                           "[unix]\nmax_sockets = -1",
                           "[[rule]]\nunix = []",
                           "[[rule]]\nunix = [\"/a\"]\nports = [1]",
                           "[[rule]]\nunix = [\"/a\"]\nprotocol = \"tcp\"",
                           "[[rule]]\nunix = [\"/a\"]\naddress = \"::1\"",
                           "[[rule]]\nunix = [\"/a\"]\nhost_port = 1",
                           "[detect]\nmin_interval = \"2s\"\nmax_interval = \"1s\""}) {
    EXPECT_EQ(mistakes_of(text).size(), 1U) << text;
  }
}

TEST(Config, RulesKeepTheirOrderThroughAllFiles) {
  const auto read = parse_config(R"toml(
[[rule]]
container = "db-*"
label = {stage = "test"}
process = "post(gres|master)"
ports = [1, "5-6"]
[[rule]]
label = "the rest"
allow_users = ["root"]
)toml",
                                 "c.toml");
  ASSERT_TRUE(read) << text_of(read.error());
  ASSERT_EQ(read->rules.size(), 2U);
  EXPECT_EQ(read->rules[0].container, "db-*");
  EXPECT_EQ(read->rules[0].labels.at("stage"), "test");
  EXPECT_EQ(read->rules[0].process->text(), "post(gres|master)");
  EXPECT_EQ(read->rules[0].ports, (PortRanges{{1, 1}, {5, 6}}));
  EXPECT_EQ(read->rules[0].place.text(), "c.toml:2");
  EXPECT_EQ(read->rules[1].label, "the rest");
  EXPECT_EQ(read->rules[1].allow_users, std::vector<uid_t>{0});
}

TEST(Config, RejectsDuplicateHostPortsAndTargets) {
  EXPECT_THAT(
      mistakes_of("[[forward]]\ncontainer = \"a\"\ntarget = \"80\"\nhost_port = 8000\n"
                  "[[forward]]\ncontainer = \"b\"\ntarget = \"80\"\nhost_port = 8000\n"
                  "[[forward]]\ncontainer = \"b\"\ntarget = 80\n"),
      ElementsAre("c.toml:5:1: host port 8000 is already used by the [[forward]] at c.toml:1",
                  "c.toml:9:1: port 80 of b already has a [[forward]], at c.toml:5"));
}

TEST(Config, AllowsOneHostPortForTcpAndUdp) {
  const auto read = parse_config(
      "[[forward]]\ncontainer = \"a\"\ntarget = \"53\"\nhost_port = 8053\n"
      "[[forward]]\ncontainer = \"a\"\ntarget = \"53/udp\"\nhost_port = 8053\n",
      "c.toml");
  ASSERT_TRUE(read);
  EXPECT_EQ(read->forwards.at(1).target, (Target{Protocol::Udp, 53}));
}

TEST(Config, ARuleMayBeAboutOneProtocol) {
  const auto read = parse_config("[detect]\nudp = true\n[[rule]]\nprotocol = \"udp\"\n", "c.toml");
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->detect.udp);
  EXPECT_EQ(read->rules.at(0).protocol, Protocol::Udp);
  EXPECT_THAT(mistakes_of("[[rule]]\nprotocol = \"sctp\"\n"), testing::SizeIs(1));
}

TEST(Config, AForwardSaysWhatItTies) {
  EXPECT_THAT(
      mistakes_of("[[forward]]\nhost_port = 1\n[[forward]]\ncontainer = \"a\"\n"
                  "target = \"80/udp\"\ndirection = \"reverse\"\n"),
      ElementsAre("c.toml:1:1: [[forward]] needs container", "c.toml:1:1: [[forward]] needs target",
                  StartsWith("c.toml:3:1: a reverse [[forward]] needs host_port"),
                  StartsWith("c.toml:3:1: a reverse [[forward]] can only be TCP")));
  const auto read =
      parse_config("[[forward]]\ncontainer = \"a\"\ntarget = \"80\"\nlabel = \"x\"", "c.toml");
  ASSERT_TRUE(read);
  const DeclaredForward wanted{
      {.container = "a", .target = {Protocol::Tcp, 80}, .label = "x"}, false, {"c.toml", 1, 1}};
  EXPECT_EQ(read->forwards, std::vector{wanted});
}

TEST(Config, RequiresTwoKeysForRemoteBind) {
  EXPECT_THAT(
      mistakes_of("[host]\nhold = \"1s\"\nbind = \"0.0.0.0\"\n"),
      ElementsAre(AllOf(StartsWith("c.toml:3:1: [host] bind = \"0.0.0.0\" is not a loopback"),
                        HasSubstr("allow_remote = true"))));
}

TEST(Config, ReportsAContradictionAtItsPlace) {
  EXPECT_THAT(mistakes_of("[detect]\nudp = false\nmin_interval = \"2s\"\n"),
              ElementsAre("c.toml:3:1: [detect] min_interval is longer than max_interval"));
}

TEST(Config, ADropInOverridesTheFileBesideIt) {
  namespace fs = std::filesystem;
  std::string pattern = (fs::temp_directory_path() / "portfwd-config-XXXXXX").string();
  const fs::path dir = ::mkdtemp(pattern.data());
  fs::create_directory(dir / "config.d");
  std::ofstream(dir / "config.toml") << "[host]\nlinger = \"3s\"\nhold = \"3s\"\n";
  std::ofstream(dir / "config.d/10-mine.toml") << "[host]\nlinger = \"4s\"\n";
  std::ofstream(dir / "config.d/ignored.conf") << "garbage";
  const auto read = read_files(config_files(dir / "config.toml", false));
  fs::remove_all(dir);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->host.linger, 4s);
  EXPECT_EQ(read->host.hold, 3s);
}

TEST(Config, ReadsNoHiddenFileOfTheDropIns) {
  namespace fs = std::filesystem;
  const testing_support::TempDir dir;
  const fs::path config = fs::path(dir.path()) / "config.toml";
  fs::create_directory(config.parent_path() / "config.d");
  fs::create_symlink("me@host.1234:5678", config.parent_path() / "config.d/.#shop.toml");
  std::ofstream(config.parent_path() / "config.d/.shop.toml") << "garbage";
  std::ofstream(config.parent_path() / "config.d/.toml") << "garbage";
  EXPECT_TRUE(config_files(config, false).empty());
  std::ofstream(config.parent_path() / "config.d/shop.toml") << "[host]\nlinger = \"4s\"\n";
  EXPECT_EQ(config_files(config, false).size(), 1U);
  const auto read = read_files(config_files(config, false));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->host.linger, 4s);
}

TEST(Config, RejectsAFileInThePlaceOfAFolder) {
  namespace fs = std::filesystem;
  const testing_support::TempDir dir;
  const fs::path home = fs::path(dir.path()) / "portfwd";
  const auto complaint = [&] {
    const auto read = read_files(config_files(home / "config.toml", false));
    return read ? "" : read.error().front().message();
  };
  EXPECT_EQ(complaint(), "");
  std::ofstream(home) << "";
  EXPECT_THAT(complaint(), HasSubstr("portfwd/config.toml: cannot be read: "));
  EXPECT_THAT(complaint(), HasSubstr("not a folder"));
  fs::remove(home);
  fs::create_symlink("nothing", home);
  EXPECT_THAT(complaint(), HasSubstr("portfwd/config.toml: cannot be read: "));
  fs::remove(home);
  fs::create_directory(home);
  EXPECT_EQ(complaint(), "");
  std::ofstream(home / "config.d") << "[host]\nlinger = \"4s\"\n";
  EXPECT_THAT(complaint(), HasSubstr("config.d/*.toml: cannot be read: "));
  EXPECT_THAT(complaint(), HasSubstr("not a folder"));
}

TEST(Config, AMissingFileThatWasAskedForIsAMistake) {
  const auto read = read_files(config_files("/nonexistent/config.toml", true));
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().front().message(),
              HasSubstr("/nonexistent/config.toml: cannot be read: "));
  EXPECT_TRUE(read_files(config_files("/nonexistent/config.toml", false)));
}

TEST(Config, RejectsMoreForwardsThanThereCanBe) {
  const auto sections = [](std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
      text += fmt::format("[[forward]]\ncontainer = \"c{}\"\ntarget = \"80\"\n", i);
    }
    return text;
  };
  EXPECT_THAT(mistakes_of(sections(kMostDeclaredForwards)), ElementsAre());
  const auto said = mistakes_of(sections(kMostDeclaredForwards + 500));
  ASSERT_EQ(said.size(), 1U);
  EXPECT_THAT(said.front(), HasSubstr(fmt::format("at most {} ", kMostDeclaredForwards)));
  EXPECT_THAT(said.front(), HasSubstr(fmt::format("c.toml:{}:", 3 * kMostDeclaredForwards + 1)));
}

TEST(Config, ReportsEachDuplicateOnce) {
  std::string text;
  for (int i = 0; i < 5; ++i) {
    text += "[[forward]]\ncontainer = \"c\"\ntarget = \"80\"\nhost_port = 80\n";
  }
  EXPECT_EQ(mistakes_of(text).size(), 4U);
}

TEST(Config, RejectsAConditionOnLabelsThatIsGivenTwice) {
  for (const char* const text : {"[[rule]]\nlabel = {a = \"x\"}\nlabels = {b = \"y\"}\n",
                                 "[[rule]]\nlabels = {b = \"y\"}\nlabel = {a = \"x\"}\n"}) {
    EXPECT_THAT(mistakes_of(text), ElementsAre(HasSubstr("not both")));
  }
  EXPECT_THAT(mistakes_of("[[rule]]\nlabels = {b = \"y\"}\nlabel = \"the shop\"\n"),
              testing::IsEmpty());
}

TEST(Config, TellsEveryMistakeOfALine) {
  EXPECT_EQ(mistakes_of("[ports]\nexclude = [0, 22, \"9-8\", \"x\"]\n").size(), 3U);
  EXPECT_EQ(mistakes_of("[[rule]]\nlabels = {a = 1, b = \"x\", c = \"\"}\n").size(), 2U);
  EXPECT_EQ(mistakes_of("host = {linger = \"soon\", hold = 5, drain = \"1s\"}\n").size(), 2U);
}

TEST(Config, HintsAtTheQuotesOfARange) {
  for (const char* line : {"exclude = [8000-8010]", "exclude = [22, 8000-8010, 7]",
                           "exclude=[\"1-2\",8000-8010]", "include = 8000-8010 # 1-2"}) {
    const auto said = mistakes_of("[ports]\n" + std::string(line) + "\n");
    ASSERT_EQ(said.size(), 1U) << line;
    EXPECT_THAT(said.front(), HasSubstr("needs quotes: \"8000-8010\"")) << line;
    EXPECT_THAT(said.front(), HasSubstr("c.toml:2:")) << line;
  }
  for (const char* line : {"exclude = [", "exclude = \"8000-8010", "a = 2026-11-29x", "= # 1-2"}) {
    for (const auto& said : mistakes_of("[ports]\n" + std::string(line) + "\n")) {
      EXPECT_THAT(said, testing::Not(HasSubstr("needs quotes"))) << line;
    }
  }
}

TEST(Config, RejectsWhatIsNoFileAndSaysWhatItIs) {
  namespace fs = std::filesystem;
  const testing_support::TempDir dir;
  const fs::path config = fs::path(dir.path()) / "config.toml";
  const auto complaint = [&] {
    const auto read = read_files(config_files(config, false));
    return read ? "" : read.error().front().message();
  };
  fs::create_directory(config);
  EXPECT_THAT(complaint(), HasSubstr("config.toml: cannot be read: it is a folder"));
  fs::remove(config);
  ASSERT_EQ(::mkfifo(config.c_str(), 0600), 0);
  EXPECT_THAT(complaint(), HasSubstr("pipe"));
  fs::remove(config);
  fs::create_symlink("/dev/zero", config);
  EXPECT_THAT(complaint(), HasSubstr("device"));
  fs::remove(config);
  fs::create_symlink("nothing", config);
  EXPECT_THAT(complaint(), HasSubstr("link to a file that does not exist"));
  fs::remove(config);
  std::ofstream(config) << "# " << std::string(1 << 20, 'x');
  EXPECT_THAT(complaint(), HasSubstr("1024 KiB"));
  fs::remove(config);
  EXPECT_EQ(complaint(), "");
  fs::create_symlink("nothing", config.parent_path() / "config.d");
  EXPECT_THAT(complaint(), HasSubstr("config.d: cannot be read: it is a link"));
  fs::remove(config.parent_path() / "config.d");
  fs::create_directories(config.parent_path() / "config.d/folder.toml");
  EXPECT_THAT(complaint(), HasSubstr("folder.toml: cannot be read: it is a folder"));
}

TEST(Values, DurationsHaveAUnitAndAreNotNegative) {
  EXPECT_EQ(parse_duration("250ms"), 250ms);
  EXPECT_EQ(parse_duration("0s"), 0s);
  EXPECT_EQ(parse_duration("24h"), 24h);
  for (const char* text : {"", "5", "s", "-1s", "1 s", "1days", "25h", "99999999999999999999s"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(Values, ARegexMatchesAnyPart) {
  const auto regex = Regex::compile("post(gres|master)");
  ASSERT_TRUE(regex);
  EXPECT_TRUE(regex->matches("/usr/bin/postgres -D /data"));
  EXPECT_FALSE(regex->matches("nginx"));
  EXPECT_EQ(*regex, *Regex::compile("post(gres|master)"));
  EXPECT_FALSE(Regex::compile("post("));
}

}  // namespace
}  // namespace portfwd
