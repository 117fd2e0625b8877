// One forward with very many short connections: other forwards are served, new ports are detected,
// and requests to the daemon are answered.
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using namespace std::chrono_literals;

/// Processes that connect, read and close repeatedly. They end with this object.
class Storm {
 public:
  explicit Storm(const Endpoint& at) {
    for (pid_t& pid : pids_) {
      pid = ::fork();
      if (pid == 0) rage(at);
    }
  }
  Storm(const Storm&) = delete;
  Storm& operator=(const Storm&) = delete;
  ~Storm() {
    for (const pid_t pid : pids_) ::kill(pid, SIGKILL);
    for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
  }

 private:
  [[noreturn]] static void rage(const Endpoint& at) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const SockAddr address = to_sockaddr(at);
    for (;;) {
      const UniqueFd fd(
          ::socket(address_family(at.address.family()), SOCK_STREAM | SOCK_CLOEXEC, 0));
      std::array<char, 64> bytes;
      if (::connect(fd.get(), address.get(), address.length) == 0) {
        (void)!::recv(fd.get(), bytes.data(), bytes.size(), 0);
      }
    }
  }

  std::array<pid_t, 8> pids_{};
};

struct SystemStorm : SystemTest {
  int connections() { return forward_of(8080)["connections"]["total"]; }
};

TEST_F(SystemStorm, DoesNotDelayOtherForwards) {
  start();
  const Box stormy;
  ASSERT_EQ(stormy.open(8080), 0);
  const Box calm;
  ASSERT_EQ(calm.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8080) && wait_for_added(8081));
  const Storm storm({kV4, 8080});
  ASSERT_TRUE(until([&] { return connections() > 1000; }));

  std::vector<Duration> answers;
  for (int i = 0; i < 21; ++i) {
    const TimePoint asked = loop_.now();
    ASSERT_EQ(bus().manager("GetStatus").error, "");
    answers.push_back(loop_.now() - asked);
  }
  std::ranges::sort(answers);
  EXPECT_LT(answers[answers.size() / 2], 3 * 50ms);
  for (Port port = 9000; port < 9005; ++port) {
    EXPECT_EQ(greeting({kV4, 8081}), "8081 here\n");
    ASSERT_EQ(calm.open(port), 0);
    ASSERT_TRUE(wait_for_added(port));
    EXPECT_EQ(greeting({kV6, port}), std::to_string(port) + " here\n");
  }
  const Json status = json({"status"});
  std::printf("%d connections so far; D-Bus: median %.1f ms; longest turn %.1f ms\n", connections(),
              std::chrono::duration<double, std::milli>(answers[answers.size() / 2]).count(),
              status["longest_turn_usec"].get<double>() / 1e3);
  EXPECT_GT(status["longest_turn_usec"], 0);
  EXPECT_NE(ctl({"status"}).out.find("longest turn"), std::string::npos);
}

}  // namespace
}  // namespace portfwd
