// Limits: too many ports, changes, connections, or too few descriptors. The daemon warns once, its
// cost stays within the documented figures, and other containers are served.
#include <fstream>

#include "build_paths.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using namespace std::chrono_literals;

#ifdef PORTFWD_QUICK_BUILD
constexpr double kSlowBuild = 1;
constexpr double kMemoryWith5000Listeners = 25e6;
#else
constexpr double kSlowBuild = 6;  ///< the documented figures are for release builds
constexpr double kMemoryWith5000Listeners = 600e6;  ///< sanitizers retain freed memory
#endif

class SystemLimits : public SystemTest {
 protected:
  /// CPU time of the daemon. Source: proc(5), schedstat: the first number is in nanoseconds.
  [[nodiscard]] Duration cpu_used() const {
    std::int64_t ns = 0;
    std::ifstream("/proc/" + std::to_string(daemon_->pid()) + "/schedstat") >> ns;
    EXPECT_GT(ns, 0);
    return std::chrono::nanoseconds(ns);
  }
  /// The share of a core that the daemon uses during the next `stretch`.
  double cpu_share(Duration stretch) {
    const Duration before = cpu_used();
    const TimePoint began = loop_.now();
    until([&] { return loop_.now() - began >= stretch; });
    return std::chrono::duration<double>(cpu_used() - before) /
           std::chrono::duration<double>(loop_.now() - began);
  }
};

TEST_F(SystemLimits, AContainerWith5000PortsGetsItsShareAndOthersTheirs) {
  start();
  const Box box;
  ASSERT_EQ(box.tell([](BoxInside& inside, const BoxArgument&) {
    for (int port = 10000; port < 15000; ++port) {
      UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const Endpoint at{IpAddress::loopback(Family::V4), static_cast<Port>(port)};
      const SockAddr address = to_sockaddr(at);
      if (::bind(fd.get(), address.get(), address.length) != 0 || ::listen(fd.get(), 1) != 0)
        return errno;
      inside.listeners.push_back({at, std::move(fd)});
    }
    return 0;
  }),
            0);
  ASSERT_TRUE(until([&] { return lines_with("has more open ports") >= 1; }));
  const Box other;
  ASSERT_EQ(other.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_TRUE(until([&] { return json({"list"}).size() >= 65; }));
  EXPECT_EQ(json({"list"}).size(), 65U);
  EXPECT_EQ(lines_with("has more open ports"), 1) << daemon_->err();
  EXPECT_TRUE(until([&] { return container_of(box.pid()).at("listeners").size() == 5000; }));
  const Json status = json({"status"});
  EXPECT_LT(status.at("memory_bytes"), kMemoryWith5000Listeners) << status.dump(1);
  const double share = cpu_share(1s);
  std::printf("with 5000 listeners: %.2f %% of a core, %.1f MB\n", 100 * share,
              status.at("memory_bytes").get<double>() / 1e6);
}

// Sanitizers retain freed memory.
#ifdef PORTFWD_QUICK_BUILD
TEST_F(SystemLimits, GivesMemoryBackAfterHundredsOfContainers) {
  start();
  const auto memory = [&] { return json({"status"}).at("memory_bytes").get<double>(); };
  const double before = memory();
  double most = 0;
  for (int round = 0; round < 4; ++round) {
    std::list<Box> boxes;
    for (int i = 0; i < 100; ++i) {
      const Box& box = boxes.emplace_back();
      for (Port port = 10000; port < 10010; ++port) ASSERT_EQ(box.open(port), 0);
    }
    ASSERT_TRUE(until([&] { return json({"list"}).size() == 1000U; }));
    most = std::max(most, memory());
    boxes.clear();
    ASSERT_TRUE(until([&] { return json({"list"}).empty(); }));
  }
  ASSERT_TRUE(until([&] { return json({"containers", "--all"}).empty(); }));
  EXPECT_TRUE(until([&] { return memory() < 12 * 1024 * 1024; })) << memory() << " of " << most;
  std::printf("memory: %.1f MB before, %.1f MB with 100 containers, %.1f MB after\n", before / 1e6,
              most / 1e6, memory() / 1e6);
}
#endif

TEST_F(SystemLimits, LimitsTheCostOfAPortThatFlapsAThousandTimesASecond) {
  start();
  const Box quiet;
  ASSERT_EQ(quiet.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  const Box box;
  ASSERT_EQ(box.tell(
                [](BoxInside& inside, const BoxArgument& a) {
                  inside.churn_port = a.at.port;
                  inside.churning = true;
                  return 0;
                },
                {{kV4, 9000}}),
            0);
  ASSERT_TRUE(wait_for_added(9000));
  const double share = cpu_share(4s);
  std::printf("while a port opens and closes: %.2f %% of a core\n", 100 * share);
  EXPECT_LT(share, 3 * 0.005 * kSlowBuild);
  const Box late;
  ASSERT_EQ(late.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(greeting({kV4, 8081}), "8081 here\n");
}

// UBSan examines an object's memory through a pipe, and reports a broken object if there is no
// descriptor for one: these tests are for the other builds.
#ifndef __SANITIZE_ADDRESS__

TEST_F(SystemLimits, WithoutDescriptorsConnectionsWaitAndAreServedLater) {
  start({"prlimit", "--nofile=128:128", PORTFWD_PATH});
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 100; ++i) clients.push_back(connect_to_port({kV4, 8080}));
  ASSERT_TRUE(until([&] { return lines_with("descriptors are short") >= 1; }));
  EXPECT_TRUE(until([&] { return json({"status"})["descriptor_shortage"] != "none"; }))
      << "it answers still, and says so";
  const double share = cpu_share(1s);
  std::printf("while connections wait for descriptors: %.2f %% of a core\n", 100 * share);
  EXPECT_LT(share, 0.05 * kSlowBuild) << "it must not spin";
  for (UniqueFd& client : clients) {  // the end of each lets another one in
    ASSERT_EQ(read_line(client), "8080 here\n");
    client.reset();
  }
  EXPECT_EQ(greeting({kV6, 8080}), "8080 here\n");
  EXPECT_TRUE(until([&] { return json({"status"})["descriptor_shortage"] == "none"; }));
}

TEST_F(SystemLimits, ReservesDescriptorsForOthersAndForDetection) {
  start({"prlimit", "--nofile=1024:1024", PORTFWD_PATH});
  const Box busy;
  ASSERT_EQ(busy.open(8080), 0);
  const Box quiet;
  ASSERT_EQ(quiet.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8080) && wait_for_added(8081));
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 500; ++i) clients.push_back(connect_to_port({kV4, 8080}));
  ASSERT_TRUE(until([&] { return lines_with("descriptors are short") >= 1; }));
  EXPECT_EQ(greeting({kV4, 8081}), "8081 here\n");
  ASSERT_EQ(quiet.open(8082), 0);
  ASSERT_TRUE(wait_for_added(8082)) << "what opens is seen";
  EXPECT_EQ(greeting({kV6, 8082}), "8082 here\n");
  EXPECT_TRUE(until([&] {
    const Json status = json({"status"});
    return status["descriptor_shortage"] == "clients of the busiest forwards wait" &&
           status["forwards_waiting_for_descriptors"] == 1;
  })) << json({"status"});
  clients.erase(clients.begin(), clients.begin() + 300);
  for (const UniqueFd& client : clients) {
    ASSERT_EQ(read_line(client), "8080 here\n") << json({"status"});
  }
  clients.clear();
  EXPECT_TRUE(until([&] { return json({"status"})["descriptor_shortage"] == "none"; }));
  EXPECT_EQ(lines_with("descriptors are short"), 1) << daemon_->err();
}

TEST_F(SystemLimits, TheSoftLimitIsRaisedToTheHardOne) {
  start({"prlimit", "--nofile=256:1024", PORTFWD_PATH});
  EXPECT_EQ(json({"status"})["max_fds"], 1024);
}

TEST_F(SystemLimits, ItStartsAndServesWithVeryFewDescriptors) {
  start({"prlimit", "--nofile=64:64", PORTFWD_PATH});
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(greeting({kV6, 8080}), "8080 here\n");
  std::list<Box> more(5);
  for (const Box& one : more) ASSERT_EQ(one.open(8080), 0);
  ASSERT_TRUE(until([&] { return lines_with("Too many open files") >= 1; }));
  const double share = cpu_share(1s);
  std::printf("with more containers than 64 descriptors serve: %.2f %% of a core\n", 100 * share);
  EXPECT_LT(share, 0.05 * kSlowBuild) << "it must not spin";
  EXPECT_EQ(ctl({"status"}).status, 0) << "it answers still";
}

TEST_F(SystemLimits, SaysWhatIsWrongWhenThereIsNoDescriptorForAContainer) {
  start({"prlimit", "--nofile=30:30", PORTFWD_PATH});
  std::list<Box> boxes(3);
  for (const Box& box : boxes) ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(until([&] { return lines_with("Too many open files") >= 1; })) << daemon_->err();
  EXPECT_GE(lines_with("raise LimitNOFILE="), 1) << daemon_->err();
  const Json status = json({"status"});
  EXPECT_NE(status["descriptor_shortage"], "none") << status.dump(1);
  EXPECT_NE(status["descriptor_remedy"].dump().find("LimitNOFILE"), std::string::npos);
  EXPECT_EQ(ctl({"explain", "9999"}).err.find("event object"), std::string::npos);
  EXPECT_NE(ctl({"explain", "9999"}).err.find("LimitNOFILE"), std::string::npos);
  for (const char* command : {"list", "containers"}) {
    EXPECT_NE(ctl({command}).out.find("LimitNOFILE"), std::string::npos) << command;
  }
}

TEST_F(SystemLimits, RejectsAForwardWithTheReasonWhenDescriptorsAreUsedUp) {
  start({"prlimit", "--nofile=64:64", PORTFWD_PATH});
  Said said{};
  for (int port = 18000; port < 18064 && said.status == 0; ++port) {
    const std::string target = "80:" + std::to_string(port);
    said = ctl({"forward", "shop" + std::to_string(port), target, "--allow-missing"});
  }
  ASSERT_EQ(said.status, 1);
  EXPECT_NE(said.err.find("Too many open files"), std::string::npos) << said.err;
  EXPECT_NE(said.err.find("raise LimitNOFILE="), std::string::npos) << said.err;
  EXPECT_EQ(said.err.find("host port,"), std::string::npos) << "another port would not do";
}

#endif

}  // namespace
}  // namespace portfwd
