// The whole daemon, its bus and its client: a listener in a namespace becomes a forward that users
// and programs see, and every way in which the daemon ends.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <optional>

#include "build_paths.h"
#include "support/bus_client.h"
#include "support/deadline.h"
#include "support/private_bus.h"
#include "support/program.h"
#include "support/temp_dir.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace testing_support;

constexpr int kEndedByRequest = 0;
constexpr int kFailed = 1;
constexpr int kAnotherOwnsTheName = 4;

class BusDaemonTest : public testing::Test {
 protected:
  BusDaemonTest() {
    ::setenv("DBUS_SESSION_BUS_ADDRESS", bus_.address().c_str(), 1);
    for (const char* name : {"XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"}) {
      ::setenv(name, home_.path().c_str(), 1);
    }
    configure("[host]\nlinger = \"100ms\"\n");
  }

  void configure(const std::string& text) {
    std::filesystem::create_directories(home_.path() + "/portfwd");
    std::ofstream(home_.path() + "/portfwd/config.toml") << text;
  }

  /// Starts the daemon; returns once it answers.
  void start() {
    daemon_ = std::make_unique<Program>(loop_, std::vector<std::string>{PORTFWD_PATH});
    client_ = std::make_unique<BusClient>(loop_, bus_.address());
    client_->listen();
    const TimePoint deadline = loop_.now() + kDeadline;
    while (!client_->manager("GetStatus").error.empty()) {
      ASSERT_LT(loop_.now(), deadline) << daemon_->err();
      ASSERT_FALSE(daemon_->ended()) << daemon_->err();
      ASSERT_TRUE(loop_.turn(std::chrono::milliseconds(5)));
    }
  }
  bool ended(const Program& program) {
    return turn_until(loop_, [&] { return program.ended(); });
  }

  struct Result {
    int status;
    std::string out;
    std::string err;
  };
  Result ctl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), PORTFWDCTL_PATH);
    const Program program(loop_, std::move(arguments));
    EXPECT_TRUE(ended(program));
    return {program.status(), program.out(), program.err()};
  }
  Json json(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "--json");
    const Result result = ctl(std::move(arguments));
    EXPECT_EQ(result.status, 0) << result.err;
    return Json::parse(result.out, nullptr, false);
  }

  /// Waits for the signal about the forward of this container port.
  std::optional<Json> signal(const std::string& member, Port port) {
    std::optional<Json> found;
    turn_until(loop_, [&] {
      for (const auto& signal : client_->signals(member)) {
        if (signal.body[1]["ContainerPort"] == port) found = signal.body[1];
      }
      return found.has_value();
    });
    return found;
  }
  /// The container of this namespace, as `containers --all` prints it.
  Json container_of(const TestNetns& netns) {
    for (const Json& c : json({"containers", "--all"})) {
      if (c["pid"] == netns.pid()) return c;
    }
    ADD_FAILURE() << "the container is not known";
    return nullptr;
  }

  PrivateBus bus_;
  TempDir home_;
  SystemClock clock_;
  EventLoop loop_{clock_};
  std::unique_ptr<Program> daemon_;
  std::unique_ptr<BusClient> client_;
};

const Endpoint kInside{IpAddress::loopback(Family::V4), 18081};

/// Sends a byte to `to`.
/// @return the answer of `listener`
std::string exchange(const UniqueFd& listener, const Endpoint& to) {
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const SockAddr address = to_sockaddr(to);
  EXPECT_EQ(::connect(client.get(), address.get(), address.length), 0) << std::strerror(errno);
  EXPECT_EQ(::send(client.get(), "?", 1, MSG_NOSIGNAL), 1);
  pollfd wait{listener.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&wait, 1, 10'000), 1) << "nobody came to the listener";
  const UniqueFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  char byte = 0;
  EXPECT_EQ(::recv(server.get(), &byte, 1, 0), 1);
  EXPECT_EQ(::send(server.get(), "hello", 5, MSG_NOSIGNAL), 5);
  std::array<char, 5> answer{};
  EXPECT_EQ(::recv(client.get(), answer.data(), answer.size(), MSG_WAITALL), 5);
  return {answer.data(), answer.size()};
}

TEST_F(BusDaemonTest, AListenerInANamespaceIsAForwardThatEverybodySees) {
  start();
  const TestNetns netns;
  UniqueFd listener = netns.listen(kInside);
  const auto added = signal("PortAdded", kInside.port);
  ASSERT_TRUE(added) << daemon_->err();
  EXPECT_EQ((*added)["HostPort"], kInside.port);
  EXPECT_EQ((*added)["HostAddresses"], Json({"127.0.0.1", "::1"}));
  EXPECT_EQ((*added)["Origin"], "auto");
  EXPECT_EQ(exchange(listener, kInside), "hello");

  const Json listed = json({"list", "--container", (*added)["ContainerId"]});
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed[0]["state"], "active");
  EXPECT_EQ(listed[0]["connections"]["total"], 1);
  EXPECT_EQ(listed[0]["bytes"], Json({{"in", 1}, {"out", 5}}));
  EXPECT_EQ(container_of(netns)["listeners"][0]["port"], kInside.port);
  EXPECT_EQ(json({"explain", "18081"})["forwarded"], true);

  listener.reset();
  const auto removed = signal("PortRemoved", kInside.port);
  ASSERT_TRUE(removed) << daemon_->err();
  EXPECT_EQ((*removed)["Reason"], "listener-closed");
  EXPECT_GT((*removed)["Sequence"], (*added)["Sequence"]);
  const Json events = json({"events", "--since", "#" + (*added)["Sequence"].dump()});
  EXPECT_TRUE(
      std::ranges::any_of(events, [&](const Json& e) {  // containers of other tests may come and go
        return e["seq"] == (*removed)["Sequence"] && e["type"] == "PortRemoved";
      }));
}

TEST_F(BusDaemonTest, AManualForwardWaitsAndIsEndedByItsHostPort) {
  start();
  const TestNetns netns;
  const UniqueFd listener = netns.listen(kInside);
  ASSERT_TRUE(signal("PortAdded", kInside.port)) << daemon_->err();
  const std::string id = container_of(netns)["id"];
  const Json made = json({"forward", id, "9000:19000", "--label", "mine"});
  EXPECT_EQ(made["origin"], "manual");
  EXPECT_EQ(made["state"], "waiting");
  EXPECT_EQ(made["host_port"], 19000);
  EXPECT_EQ(made["label"], "mine");
  EXPECT_EQ(ctl({"forward", "no-such-container", "1"}).status, 1);
  EXPECT_EQ(ctl({"unforward", "19000"}).status, 0);
  const auto removed = signal("PortRemoved", 9000);
  ASSERT_TRUE(removed);
  EXPECT_EQ((*removed)["Reason"], "unforwarded");
}

TEST_F(BusDaemonTest, AForwardEndsWithTheConnectionOfItsCaller) {
  start();
  const TestNetns netns;
  const UniqueFd listener = netns.listen(kInside);
  ASSERT_TRUE(signal("PortAdded", kInside.port)) << daemon_->err();
  const std::string id = container_of(netns)["id"];
  auto caller = std::make_unique<BusClient>(loop_, bus_.address());
  const auto reply =
      caller->manager("Forward", "ssa{sv}", id.c_str(), "9000", 1, "while_connected", "b", 1);
  ASSERT_EQ(reply.error, "") << reply.text;
  caller.reset();
  EXPECT_TRUE(signal("PortRemoved", 9000)) << daemon_->err();
}

TEST_F(BusDaemonTest, ANamespaceIsAttachedByItsPathAndDetached) {
  start();
  const TestNetns netns;
  const std::string path = "/proc/" + std::to_string(netns.pid()) + "/ns/net";
  const Json attached = json({"attach", "--netns", path, "--name", "mine"});
  EXPECT_EQ(attached["name"], "mine");
  EXPECT_EQ(ctl({"detach", "mine"}).status, 0);
  EXPECT_EQ(ctl({"attach", "--netns", "/proc/self/status"}).status, 1) << "no namespace";
}

TEST_F(BusDaemonTest, ABrokenConfigurationIsShownWithItsPlaceAndTheOldOneStays) {
  start();
  configure("[host]\nlinger = 7\n");
  const Result result = ctl({"reload"});
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("config.toml:2:"), std::string::npos) << result.err;
  configure("");
  EXPECT_EQ(ctl({"reload"}).status, 0);
}

TEST_F(BusDaemonTest, ASecondDaemonSaysSoAndEndsWithItsOwnStatus) {
  start();
  const Program second(loop_, {PORTFWD_PATH});
  ASSERT_TRUE(ended(second));
  EXPECT_EQ(second.status(), kAnotherOwnsTheName);
  EXPECT_NE(second.err().find("another portfwd owns org.portfwd1"), std::string::npos)
      << second.err();
}

TEST_F(BusDaemonTest, FailsInOrderWhenTheBusIsLost) {
  start();
  client_.reset();
  bus_.end();
  ASSERT_TRUE(ended(*daemon_));
  EXPECT_EQ(daemon_->status(), 1) << daemon_->err();
}

TEST_F(BusDaemonTest, AskedToEndItTellsOfEveryForwardFirst) {
  start();
  const TestNetns netns;
  const UniqueFd listener = netns.listen(kInside);
  ASSERT_TRUE(signal("PortAdded", kInside.port)) << daemon_->err();
  daemon_->signal(SIGTERM);
  const auto removed = signal("PortRemoved", kInside.port);
  ASSERT_TRUE(removed) << daemon_->err();
  EXPECT_EQ((*removed)["Reason"], "daemon-stopped");
  ASSERT_TRUE(ended(*daemon_));
  EXPECT_EQ(daemon_->status(), kEndedByRequest);
}

TEST_F(BusDaemonTest, WithoutABusItFailsInOneLine) {
  bus_.end();
  const Program program(loop_, {PORTFWD_PATH});
  ASSERT_TRUE(ended(program));
  EXPECT_EQ(program.status(), kFailed);
  EXPECT_NE(program.err().find("DBUS_SESSION_BUS_ADDRESS"), std::string::npos) << program.err();
}

TEST(BusActivationTest, AskingStartsTheDaemon) {
  const PrivateBus bus(PORTFWD_PATH);
  ::setenv("DBUS_SESSION_BUS_ADDRESS", bus.address().c_str(), 1);
  const SystemClock clock;
  EventLoop loop(clock);
  const Program status(loop, {PORTFWDCTL_PATH, "--json", "status"});
  ASSERT_TRUE(turn_until(loop, [&] { return status.ended(); }));
  EXPECT_EQ(status.status(), 0) << status.err();
  EXPECT_TRUE(Json::parse(status.out(), nullptr, false).contains("version")) << status.out();
}

}  // namespace
}  // namespace portfwd
