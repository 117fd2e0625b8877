// Changes of the configuration while the daemon runs: they apply without a request, and connections
// of forwards that they do not concern go on.
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "build_paths.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

namespace fs = std::filesystem;
using namespace testing_support;

class SystemConfig : public SystemTest {
 protected:
  /// Saves a file as most editors do: writes a new one and renames it.
  void save(const std::string& name, const std::string& toml) {
    std::ofstream(file(name + "~")) << toml;
    fs::rename(file(name + "~"), file(name));
  }
  bool wait_for_reads(int times) {
    return until([&] { return lines_with("configuration reloaded") >= times; });
  }
  /// Starts with listeners on 8080 and 9090 in a container, and a client connected to 8080.
  void start_with_a_client() {
    start();
    ASSERT_EQ(box_.open(8080), 0);
    ASSERT_EQ(box_.open(9090), 0);
    ASSERT_TRUE(wait_for_added(8080));
    ASSERT_TRUE(wait_for_added(9090));
    client_ = connect_to_port({kV4, 8080});
    ASSERT_EQ(read_line(client_), "8080 here\n");
  }

  Box box_;
  UniqueFd client_;
};

TEST_F(SystemConfig, AppliesASavedFileAndKeepsConnections) {
  configure("");
  start_with_a_client();
  save("portfwd/config.toml", "[ports]\nexclude = [9090]\n[host]\nlinger = \"1s\"\n");
  ASSERT_TRUE(wait_for_removed(9090));
  EXPECT_TRUE(echoes(client_, "still here"));
  save("portfwd/config.toml", "[[rule]]\nports = [9090]\nhost_port = 19090\nlabel = \"second\"\n");
  ASSERT_TRUE(wait_for_added(9090, 2));
  EXPECT_EQ(forward_of(9090)["host_port"], 19090);
  EXPECT_EQ(forward_of(9090)["label"], "second");
  EXPECT_TRUE(echoes(client_, "still here"));
  EXPECT_EQ(told("PortAdded", 8080).size(), 1U);
}

TEST_F(SystemConfig, FoldersAndFilesThatAppearLaterAreNoticed) {
  fs::remove_all(file("portfwd"));
  start_with_a_client();
  fs::create_directories(file("portfwd/config.d"));
  save("portfwd/config.d/20-later.toml", "[ports]\nexclude = [9090]\n");
  ASSERT_TRUE(wait_for_removed(9090));
  fs::remove(file("portfwd/config.d/20-later.toml"));
  ASSERT_TRUE(wait_for_added(9090, 2));
  fs::remove_all(file("portfwd"));
  fs::create_directory(file("portfwd"));
  std::ofstream(file("portfwd/config.toml")) << "[ports]\nexclude = [9090]\n";
  EXPECT_TRUE(wait_for_removed(9090, 2));
}

TEST_F(SystemConfig, WatchesTheTargetOfALink) {
  fs::create_directories(file("dotfiles"));
  fs::create_directories(file("portfwd"));
  std::ofstream(file("dotfiles/portfwd.toml")) << "";
  fs::create_symlink(file("dotfiles/portfwd.toml"), file("portfwd/config.toml"));
  start_with_a_client();
  save("dotfiles/portfwd.toml", "[ports]\nexclude = [9090]\n");
  EXPECT_TRUE(wait_for_removed(9090));
}

TEST_F(SystemConfig, NoticesAFolderLinkThatIsSwitched) {
  fs::create_directories(file("quiet"));
  fs::create_directories(file("loud"));
  std::ofstream(file("quiet/config.toml")) << "";
  std::ofstream(file("loud/config.toml")) << "[ports]\nexclude = [9090]\n";
  fs::create_symlink("quiet", file("middle"));
  fs::create_directory_symlink(file("middle"), file("portfwd"));
  const auto lead = [&](const char* link, const char* target) {  // as `ln -sfn` does
    fs::create_symlink(target, file("new"));
    fs::rename(file("new"), file(link));
  };
  start_with_a_client();
  lead("middle", "loud");
  ASSERT_TRUE(wait_for_removed(9090));
  lead("portfwd", "quiet");
  ASSERT_TRUE(wait_for_added(9090, 2));
  EXPECT_TRUE(echoes(client_, "still here"));
}

TEST_F(SystemConfig, KeepsTheOldSettingsWhileAFileHasErrors) {
  configure("[ports]\non_auto_forward = \"silent\"\n");
  start_with_a_client();
  save("portfwd/config.toml", "[ports]\nexclude = 9090\n[hots]\n");
  ASSERT_TRUE(until([&] { return lines_with("config.toml:3:2: unknown section") == 1; }));
  EXPECT_EQ(lines_with("config.toml:2:11: expected a list"), 1);
  EXPECT_EQ(json({"status"}).at("configuration_errors").size(), 2U);
  EXPECT_EQ(forward_of(8080)["state"], "active");
  EXPECT_TRUE(echoes(client_, "still here"));
  save("portfwd/config.toml", "[ports]\nexclude = [9090]\n");
  ASSERT_TRUE(wait_for_removed(9090));
  EXPECT_EQ(json({"status"}).at("configuration_errors").size(), 0U);
}

TEST_F(SystemConfig, ReportsPipesAndDevicesWithoutBlocking) {
  configure("");
  start_with_a_client();
  fs::create_directories(file("portfwd/config.d"));
  ASSERT_EQ(::mkfifo(file("portfwd/config.d/pipe.toml").c_str(), 0600), 0);
  EXPECT_TRUE(
      until([&] { return lines_with("pipe.toml: cannot be read: it is a named pipe") == 1; }));
  fs::remove(file("portfwd/config.d/pipe.toml"));
  fs::create_symlink("/dev/zero", file("portfwd/config.d/flood.toml"));
  EXPECT_TRUE(until([&] { return lines_with("flood.toml: cannot be read: it is a device") == 1; }));
  EXPECT_TRUE(echoes(client_, "still here"));
}

TEST_F(SystemConfig, RejectsAFolderInPlaceOfTheFile) {
  fs::create_directories(file("portfwd/config.toml"));
  for (const std::vector<std::string>& line : {std::vector<std::string>{PORTFWD_PATH},
                                               {PORTFWD_PATH, "--check-config"},
                                               {PORTFWD_PATH, "--check-config", file("portfwd")}}) {
    const Said said = run(line);
    EXPECT_EQ(said.status, 2);
    EXPECT_NE(said.err.find("it is a folder"), std::string::npos) << said.err;
  }
}

TEST_F(SystemConfig, DoesNotReloadAgainAfterAManualReload) {
  configure("");
  start();
  save("portfwd/config.toml", "[ports]\nexclude = [1]\n");
  ASSERT_EQ(ctl({"reload"}).status, 0);
  save("portfwd/unrelated.txt", "not ours");
  save("portfwd/config.toml", "[ports]\nexclude = [2]\n");
  ASSERT_TRUE(wait_for_reads(2));
  EXPECT_EQ(lines_with("configuration reloaded"), 2);
}

TEST_F(SystemConfig, HoldsClientsOfADeclaredForwardUntilItsContainerStarts) {
  configure("[[forward]]\ncontainer = \"shop\"\ntarget = \"8080\"\nhost_port = 18080\n");
  start();
  const UniqueFd early = connect_to_port({kV4, 18080});
  EXPECT_EQ(json({"list"})[0]["state"], "waiting");
  const Json why = json({"explain", "shop", "8080"});
  EXPECT_EQ(why["forwarded"], true);
  EXPECT_EQ(why["seen"][0], "there is no container of this name");
  EXPECT_EQ(why["decision"], "declared at " + file("portfwd/config.toml") + ":1");
  ASSERT_EQ(ctl({"attach", "--pid", std::to_string(box_.pid()), "--name", "shop"}).status, 0);
  ASSERT_EQ(box_.open(8080), 0);
  EXPECT_EQ(read_line(early), "8080 here\n");
  const Json forward = json({"list"})[0];
  EXPECT_EQ(forward["state"], "active");
  EXPECT_EQ(forward["origin"], "declared");
  EXPECT_EQ(forward["url"], "http://127.0.0.1:18080/");
}

TEST_F(SystemConfig, RulesSeeTheProgramAndTheContainer) {
  configure(
      "[[rule]]\nprocess = \"^server$\"\nports = [8080]\nlabel = \"a server\"\n"
      "[[rule]]\nuid = 4294967294\n[[rule]]\ncontainer = \"*\"\non_auto_forward = \"ignore\"\n");
  start();
  ASSERT_EQ(box_.open(9090), 0);
  ASSERT_EQ(box_.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(forward_of(8080)["label"], "a server");
  EXPECT_TRUE(told("PortAdded", 9090).empty());
  const Json why = json({"explain", "9090"});
  EXPECT_EQ(why["rules"].size(), 3U);
  EXPECT_NE(why["rules"][0].get<std::string>().find("port is 9090, not 8080"), std::string::npos);
  EXPECT_NE(why["rules"][2].get<std::string>().find("matches"), std::string::npos);
  save("portfwd/config.toml", "[[rule]]\ncontainer = \"*\"\non_auto_forward = \"ignore\"\n");
  ASSERT_TRUE(wait_for_removed(8080));
  EXPECT_EQ(container_of(box_.pid())["state"], "ignored");
}

TEST_F(SystemConfig, IgnoresAProgramThatOptsOutUnlessARuleNamesIt) {
  configure("");
  start();
  const Program asks(
      loop_, {"env", "PORTFWD=off", "unshare", "--user", "--map-root-user", "--net", "sh", "-c",
              "ip link set lo up; exec /usr/bin/python3 -m http.server 8080"});
  ASSERT_TRUE(until([&] {
    return std::ranges::any_of(json({"containers", "--all"}),
                               [](const Json& c) { return !c["listeners"].empty(); });
  }));
  const std::string decision = json({"explain", "8080"})["decision"].get<std::string>();
  EXPECT_NE(decision.find("PORTFWD=off"), std::string::npos) << decision;
  EXPECT_EQ(json({"list"}).size(), 0U);
  save("portfwd/config.toml", "[[rule]]\nports = [8080]\non_auto_forward = \"silent\"\n");
  EXPECT_TRUE(wait_for_added(8080));
}

}  // namespace
}  // namespace portfwd
