// Start and end of the daemon: options, exit status, service manager, bus.
#include "build_paths.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

class SystemLifetime : public SystemTest {
 protected:
  /// Expects one line on stderr and nothing on stdout.
  static void expect_one_line(const Said& said, int status, const std::string& word) {
    EXPECT_EQ(said.status, status) << said.err;
    EXPECT_TRUE(said.err.starts_with("portfwd: ")) << said.err;
    EXPECT_NE(said.err.find(word), std::string::npos) << said.err;
    EXPECT_EQ(std::ranges::count(said.err, '\n'), 1) << said.err;
    EXPECT_EQ(said.out, "");
  }
};

TEST_F(SystemLifetime, RejectsAWrongOptionWithOneLineAndStatus2) {
  expect_one_line(run({PORTFWD_PATH, "--nonsense"}), 2, "--nonsense");
  expect_one_line(run({PORTFWD_PATH, "-x"}), 2, "-x");
  expect_one_line(run({PORTFWD_PATH, "--config"}), 2, "--config");
  expect_one_line(run({PORTFWD_PATH, "--bus", "school"}), 2, "school");
  expect_one_line(run({PORTFWD_PATH, "--log-level=loud"}), 2, "loud");
  expect_one_line(run({PORTFWD_PATH, "word"}), 2, "word");
  expect_one_line(run({PORTFWD_PATH, "--config", file("missing.toml")}), 2, "missing.toml");
}

TEST_F(SystemLifetime, CheckConfigShowsEveryMistakeAndEnds) {
  configure("[host]\nlinger = \"soon\"\nlingr = \"1s\"\n");
  const Said said = run({PORTFWD_PATH, "--check-config"});
  EXPECT_EQ(said.status, 2);
  EXPECT_NE(said.err.find("config.toml:2:"), std::string::npos) << said.err;
  EXPECT_NE(said.err.find("config.toml:3:"), std::string::npos) << said.err;
  EXPECT_EQ(std::ranges::count(said.err, '\n'), 2) << said.err;
  configure("[host]\nlinger = \"1s\"\n");
  EXPECT_EQ(run({PORTFWD_PATH, "--check-config"}).status, 0);
  EXPECT_EQ(run({PORTFWD_PATH, "--check-config", file("portfwd/config.toml")}).status, 0);
}

TEST_F(SystemLifetime, RejectsTheSecondFileThatCheckConfigIsGiven) {
  expect_one_line(run({PORTFWD_PATH, "--check-config", "one", "two"}), 2, "\"two\"");
  expect_one_line(run({PORTFWD_PATH, "--check-config=one", "two"}), 2, "\"two\"");
  expect_one_line(run({PORTFWD_PATH, "a\nb" + std::string(1000, 'x')}), 2, "\"a?b");
}

TEST_F(SystemLifetime, TheCommandLineComesBeforeTheEnvironmentBeforeTheUsersFile) {
  configure("[users]\n");
  std::ofstream(file("environment.toml")) << "[environment]\n";
  std::ofstream(file("command-line.toml")) << "[command_line]\n";
  const auto complains_of = [&](std::vector<std::string> command) {
    command.insert(command.begin(), {"env", "PORTFWD_CONFIG=" + file("environment.toml")});
    return run(std::move(command)).err;
  };
  const Said users = run({PORTFWD_PATH, "--check-config"});
  EXPECT_NE(users.err.find("\"users\""), std::string::npos) << users.err;
  std::string said = complains_of({PORTFWD_PATH, "--check-config"});
  EXPECT_NE(said.find("\"environment\""), std::string::npos) << said;
  said = complains_of({PORTFWD_PATH, "--config", file("command-line.toml"), "--check-config"});
  EXPECT_NE(said.find("\"command_line\""), std::string::npos) << said;
  const Said level = run({"env", "PORTFWD_LOG_LEVEL=loud", PORTFWD_PATH, "--version"});
  expect_one_line(level, 2, "loud");
}

TEST_F(SystemLifetime, WithoutABusItSaysWhatToDo) {
  ::setenv("DBUS_SESSION_BUS_ADDRESS", ("unix:path=" + file("nothing")).c_str(), 1);
  expect_one_line(run({PORTFWD_PATH}), 1, "dbus-run-session");
}

TEST_F(SystemLifetime, SaysSoWhenItHasTooFewDescriptorsToStart) {
  bool started = false;
  for (int limit = 4; !started && limit < 64; ++limit) {
    const std::string both = std::to_string(limit) + ":" + std::to_string(limit);
    launch({"prlimit", "--nofile=" + both, PORTFWD_PATH});
    ASSERT_TRUE(until([&] { return notify_.heard("READY=1") || daemon_->ended(); })) << limit;
    started = !daemon_->ended();
    if (started) break;
    if (daemon_->status() == 127) continue;  // too few descriptors for the dynamic loader
    EXPECT_EQ(daemon_->status(), 1) << limit << ": " << daemon_->err();
    EXPECT_NE(daemon_->err().find("open files"), std::string::npos)
        << limit << ": " << daemon_->err();
  }
  ASSERT_TRUE(started);
  daemon_->signal(SIGTERM);
  EXPECT_EQ(ended(), 0) << "it hears signals";
}

TEST_F(SystemLifetime, ExitsWithStatus4IfAnotherDaemonOwnsTheName) {
  start();
  expect_one_line(run({PORTFWD_PATH}), 4, "another portfwd owns org.portfwd1");
  EXPECT_EQ(ctl({"status"}).status, 0);
}

TEST_F(SystemLifetime, EndsInOrderAndAsAFailureWhenTheBusIsLost) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  bus_client_.reset();
  bus_.end();
  EXPECT_EQ(ended(), 1) << "so that Restart=on-failure starts it again";
  EXPECT_TRUE(refused({kV4, 8080}));
  EXPECT_EQ(lines_with("bus lost"), 1) << daemon_->err();
  EXPECT_TRUE(until([&] { return brokers().empty(); }));
}

TEST_F(SystemLifetime, IgnoresSignalsThatMeanNothingToIt) {
  start();
  daemon_->signal(SIGUSR1);
  daemon_->signal(SIGUSR2);
  EXPECT_EQ(ctl({"status"}).status, 0);
}

/// Also after a restart: clients that start when the unit is ready find their ports.
TEST_F(SystemLifetime, IsReadyWhenOpenPortsAreForwarded) {
  std::vector<std::unique_ptr<Box>> boxes;
  for (Port port = 8080; port < 8085; ++port) {
    boxes.push_back(std::make_unique<Box>());
    ASSERT_EQ(boxes.back()->open(port), 0);
  }
  for (int life = 0; life < 3; ++life) {
    start();
    for (Port port = 8080; port < 8085; ++port) {
      EXPECT_EQ(greeting({kV4, port}), std::to_string(port) + " here\n") << life;
    }
    daemon_->signal(SIGTERM);
    EXPECT_EQ(ended(), 0);
  }
}

TEST_F(SystemLifetime, DrainsAtTheFirstSIGTERM) {
  configure("[host]\ndrain = \"9s\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  UniqueFd live = connect_to_port({kV4, 8080});
  ASSERT_EQ(read_line(live), "8080 here\n");
  daemon_->signal(SIGTERM);
  ASSERT_TRUE(wait_for_removed(8080));
  EXPECT_EQ(told("PortRemoved", 8080)[0].body[1]["Reason"], "daemon-stopped");
  EXPECT_TRUE(notify_.heard("STOPPING=1"));
  EXPECT_TRUE(refused({kV4, 8080}));
  EXPECT_TRUE(echoes(live, "still there"));

  ASSERT_EQ(box.open(8081), 0);
  EXPECT_TRUE(echoes(live, "still there, and the other port is seen"));
  EXPECT_EQ(ctl({"forward", container_of(box.pid())["name"], "9000"}).status, 1);
  EXPECT_TRUE(told("PortAdded", 8081).empty()) << "nothing new is begun";
  live.reset();
  EXPECT_EQ(ended(), 0);
}

TEST_F(SystemLifetime, ExitsAtOnceAtTheSecondSIGTERM) {
  configure("[host]\ndrain = \"60s\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const UniqueFd live = connect_to_port({kV4, 8080});
  ASSERT_EQ(read_line(live), "8080 here\n");
  daemon_->signal(SIGTERM);
  ASSERT_TRUE(wait_for_removed(8080));
  daemon_->signal(SIGTERM);
  EXPECT_EQ(ended(), 0);
}

TEST_F(SystemLifetime, AConfigurationWithMistakesLeavesTheOldOneInForce) {
  configure("[host]\nlinger = \"0s\"\n");
  start();
  configure("[host]\nlinger = \"never\"\n");
  daemon_->signal(SIGHUP);
  ASSERT_TRUE(until([&] { return lines_with("config.toml:2:") == 1; }));
  const Json status = json({"status"});
  ASSERT_EQ(status.at("configuration_errors").size(), 1U) << status.dump(1);
  EXPECT_NE(status.at("configuration_errors")[0].get<std::string>().find(":2:"), std::string::npos);
  const Said reload = ctl({"reload"});
  EXPECT_EQ(reload.status, 1);
  EXPECT_NE(reload.err.find("config.toml:2:"), std::string::npos) << reload.err;

  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  box.close(8080);
  EXPECT_TRUE(wait_for_removed(8080)) << "linger is 0s still";

  configure("[ports]\nexclude = [8081]\n");
  ASSERT_EQ(ctl({"reload"}).status, 0);
  EXPECT_EQ(json({"status"})["configuration_errors"].size(), 0U);
  ASSERT_EQ(box.open(8081), 0);
  ASSERT_EQ(box.open(8082), 0);
  ASSERT_TRUE(wait_for_added(8082));
  EXPECT_TRUE(told("PortAdded", 8081).empty());
}

TEST_F(SystemLifetime, LeavesNothingBehindWhenKilled) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  ASSERT_EQ(brokers().size(), 1U);
  daemon_->signal(SIGKILL);
  EXPECT_EQ(ended(), -SIGKILL);
  EXPECT_TRUE(refused({kV4, 8080}));
  EXPECT_TRUE(until([&] { return brokers().empty(); }));
  start();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
}

TEST_F(SystemLifetime, DoesNotBlockOnASilentManager) {
  start();
  manager_listens_ = false;
  for (int i = 1; i <= 25; ++i) {  // each changes the status; the manager's queue holds ten
    const Box box;
    ASSERT_EQ(box.open(8080), 0);
    ASSERT_TRUE(wait_for_added(8080, static_cast<std::size_t>(i)));
  }
  daemon_->signal(SIGTERM);
  manager_listens_ = true;
  EXPECT_EQ(ended(), 0);
}

TEST_F(SystemLifetime, StatusTellsTheManagerHowMuchIsForwarded) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  EXPECT_TRUE(until([&] { return notify_.heard("STATUS=Forwarding 1 ports of 1 containers"); }));
}

}  // namespace
}  // namespace portfwd
