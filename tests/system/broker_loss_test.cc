// Brokers that exit, reply with nonsense or do not reply: connections go on, and new containers and
// connections work again.
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <list>

#include "build_paths.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using namespace std::chrono_literals;

/// Replaces the broker by another program, in the test's own mount namespace.
class FakeBroker {
 public:
  /// @param script a shell script; its socket is descriptor 3
  FakeBroker(const std::string& path, const std::string& script) {
    std::ofstream(path) << "#!/bin/sh\n" << script << "\n";
    EXPECT_EQ(::chmod(path.c_str(), 0755), 0);
    EXPECT_EQ(::mount(path.c_str(), PORTFWD_BROKER_PATH, nullptr, MS_BIND, nullptr), 0)
        << std::strerror(errno);
  }
  FakeBroker(const FakeBroker&) = delete;
  FakeBroker& operator=(const FakeBroker&) = delete;
  ~FakeBroker() { EXPECT_EQ(::umount2(PORTFWD_BROKER_PATH, MNT_DETACH), 0); }
};

class SystemBrokerLoss : public SystemTest {
 protected:
  void kill_broker() {
    const std::vector<pid_t> running = brokers();
    ASSERT_EQ(running.size(), 1U);
    ::kill(running[0], SIGKILL);
    ASSERT_TRUE(until([&] { return brokers() != running; }));
  }
  int failures() { return json({"status"}).at("broker_failures"); }
};

TEST_F(SystemBrokerLoss, KeepsConnectionsAndAcceptsNewOnes) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const UniqueFd live = connect_to_port({kV4, 8080});
  ASSERT_EQ(read_line(live), "8080 here\n");
  for (int i = 0; i < 5; ++i) {
    kill_broker();
    for (int j = 0; j < 40; ++j) {  // more than the sockets made ahead
      ASSERT_EQ(greeting({kV4, 8080}), "8080 here\n") << i << ", " << j;
    }
    EXPECT_TRUE(echoes(live, "still there"));
  }
  EXPECT_TRUE(told("PortRemoved", 8080).empty());
  EXPECT_EQ(forward_of(8080)["connections"]["failed"], 0);
}

TEST_F(SystemBrokerLoss, ServesWaitingClientsThroughTheNextBroker) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  ASSERT_EQ(brokers().size(), 1U);
  const pid_t broker = brokers()[0];
  ASSERT_EQ(::kill(broker, SIGSTOP), 0);
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(connect_to_port({kV4, 8080}));
  ASSERT_TRUE(until([&] { return forward_of(8080)["connections"]["total"] == 100; }));
  ::kill(broker, SIGKILL);
  for (const UniqueFd& client : clients) EXPECT_EQ(read_line(client), "8080 here\n");
}

TEST_F(SystemBrokerLoss, ANewContainerIsEnteredAfterItsBrokerDied) {
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  kill_broker();
  const Box second = Box::nested_in(box);
  ASSERT_EQ(second.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_EQ(greeting({kV6, 8081}), "8081 here\n");
}

/// How many containers have brokers, and how often these are killed before new ports are opened.
struct Kill {
  const char* name;
  int containers;
  int times;
};

class SystemKilledBrokers : public SystemBrokerLoss, public testing::WithParamInterface<Kill> {};

/// Opens the first ports after the kill in a known container and in a new one. BrokerClientTest and
/// BrokerAccessTest check the limits of the retry intervals with a manual clock.
TEST_P(SystemKilledBrokers, DoNotDelayNewPorts) {
  start();
  std::list<Box> boxes;
  for (Port port = 8000; port < 8000 + GetParam().containers; ++port) {
    ASSERT_EQ(boxes.emplace_back().open(port), 0);
  }
  for (Port port = 8000; port < 8000 + GetParam().containers; ++port) {
    ASSERT_TRUE(wait_for_added(port));
  }
  std::vector<UniqueFd> clients;
  for (int i = 0; i < GetParam().times; ++i) {
    for (const pid_t broker : brokers()) ::kill(broker, SIGKILL);
    if (i + 1 == GetParam().times) break;
    ASSERT_TRUE(until([&] {  // until the sockets made ahead are used up
      clients.push_back(connect_to_port({kV4, 8000}));
      return !brokers().empty();
    }));
  }
  const TimePoint killed = loop_.now();
  const Box fresh;
  ASSERT_EQ(boxes.front().open(9080), 0);
  ASSERT_EQ(fresh.open(9081), 0);
  ASSERT_TRUE(wait_for_added(9080));
  ASSERT_TRUE(wait_for_added(9081));
  EXPECT_EQ(greeting({kV4, 9080}), "9080 here\n");
  EXPECT_EQ(greeting({kV4, 9081}), "9081 here\n");
  std::printf("served %lld ms after the kill\n",
              static_cast<long long>((loop_.now() - killed) / std::chrono::milliseconds(1)));
}
INSTANTIATE_TEST_SUITE_P(That, SystemKilledBrokers,
                         testing::Values(Kill{"WereOneForOneContainer", 1, 1},
                                         Kill{"WereOneForEachOfTwenty", 20, 1},
                                         Kill{"WereKilledTenTimes", 2, 10}),
                         [](const auto& which) { return which.param.name; });

struct Wrong {
  const char* name;
  const char* script;
  int failures;  ///< number to wait for
};

class SystemWrongBroker : public SystemBrokerLoss, public testing::WithParamInterface<Wrong> {};

TEST_P(SystemWrongBroker, IsLoggedOnceAndRetriedAtALowRate) {
  std::optional<FakeBroker> fake(std::in_place, file("fake"), GetParam().script);
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(until([&] { return failures() >= GetParam().failures; }));
  const Json status = json({"status"});
  EXPECT_LT(status.at("cpu_seconds"), 2.0) << status.dump(1);
  EXPECT_EQ(lines_with("socket broker failed"), 1);
  EXPECT_EQ(lines_with("cannot enter network namespace"), 1);
  EXPECT_EQ(json({"containers"}).size(), 0U);
  fake.reset();
  const TimePoint good = loop_.now();
  EXPECT_TRUE(wait_for_added(8080));
  std::printf("served %lld ms after the broker was good\n",
              static_cast<long long>((loop_.now() - good) / std::chrono::milliseconds(1)));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
}
INSTANTIATE_TEST_SUITE_P(
    That, SystemWrongBroker,
    testing::Values(Wrong{"SaysNonsense", "echo nonsense >&3; exec sleep 99", 4},
                    Wrong{"SaysTooMuch", "cat /bin/sh >&3; exec sleep 99", 4},
                    Wrong{"SaysNothing", "exec sleep 99", 2}, Wrong{"EndsAtOnce", "exit 1", 8}),
    [](const auto& which) { return which.param.name; });

}  // namespace
}  // namespace portfwd
