// A host port that refuses all clients (`hold = "0s"`, no listener inside) remains the daemon's
// while another user tries to bind it in a loop and the listener inside restarts. For the limits of
// this see SECURITY.md.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <csignal>

#include "relay/netns_dialer.h"
#include "relay/stream_port.h"
#include "support/addresses.h"
#include "support/socket_tap.h"
#include "support/user_process.h"

namespace portfwd {
namespace {

using namespace testing_support;

constexpr uid_t kDaemon = 61001;
constexpr uid_t kOther = 61002;

/// A process of the other user that binds and listens in a loop, until it has the port.
class Attacker {
 public:
  explicit Attacker(const Endpoint& at) {
    pid_ = ::fork();
    if (pid_ == 0) attack(at);
  }
  Attacker(const Attacker&) = delete;
  Attacker& operator=(const Attacker&) = delete;
  ~Attacker() {
    shared_->stop = true;  // another user's process cannot be signalled
    ::waitpid(pid_, nullptr, 0);
    ::munmap(shared_, sizeof *shared_);
  }
  [[nodiscard]] unsigned attempts() const { return shared_->attempts; }
  [[nodiscard]] unsigned binds() const { return shared_->binds; }

 private:
  struct Shared {
    std::atomic<unsigned> attempts;
    std::atomic<unsigned> binds;
    std::atomic<bool> stop;
  };

  [[noreturn]] void attack(const Endpoint& at) const {
    if (::seteuid(0) != 0 || ::setresuid(kOther, kOther, kOther) != 0) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // after the change of user, which resets it
    const SockAddr address = to_sockaddr(at);
    const int on = 1;
    while (!shared_->stop) {
      const UniqueFd fd = new_socket(at.address.family());
      ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
      if (::bind(fd.get(), address.get(), address.length) == 0) {
        ++shared_->binds;
        (void)::listen(fd.get(), 1);
      }
      ++shared_->attempts;
    }
    ::_exit(0);
  }

  Shared* shared_ = static_cast<Shared*>(
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  pid_t pid_ = -1;
};

struct HeldPort : testing::TestWithParam<IpAddress>, ForwardPortObserver {
  HeldPort() { EXPECT_TRUE(port.bind(addresses(entry)) && port.hold()); }
  ~HeldPort() override { EXPECT_EQ(::seteuid(0), 0); }
  void on_target_refused(ForwardPort&, const Error&) override {}
  void on_drained(ForwardPort&) override {}

  static constexpr unsigned kAttempts = 5000;
  static constexpr unsigned kRestarts = 500;

  int acting = ::seteuid(kDaemon);
  Family family = GetParam().family();
  Endpoint entry{IpAddress::loopback(family), 8080};
  ListenAddress inside{{IpAddress::loopback(family), 9090}, false};
  SystemClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  AcceptGate gate{loop, [](const Error& error) { ADD_FAILURE() << error.text(); }};
  ClientIdentity identity{*SockDiag::open(), kDaemon, Subuids("/nonexistent", "nobody", kDaemon)};
  SocketTap sockets;
  NetnsDialer dialer{context, sockets};
  StreamPort port{{context, gate, identity}, {.hold = Duration::zero(), .name = "test"}, *this};
};

INSTANTIATE_TEST_SUITE_P(At, HeldPort,
                         testing::Values(IpAddress::loopback(Family::V4),
                                         IpAddress::any(Family::V4),
                                         IpAddress::loopback(Family::V6),
                                         IpAddress::any(Family::V6)),
                         [](const auto& which) {
                           return std::string(which.param.is_any() ? "Wildcard" : "Loopback") +
                                  (which.param.family() == Family::V4 ? "V4" : "V6");
                         });

TEST_P(HeldPort, CannotBeBoundByAnotherUserBeforeItsFirstListener) {
  const Attacker attacker({GetParam(), entry.port});
  while (attacker.attempts() < kAttempts && attacker.binds() == 0) ::sched_yield();
  EXPECT_EQ(attacker.binds(), 0U);
}

TEST_P(HeldPort, CannotBeBoundByAnotherUserWhileItsServerRestarts) {
  const Attacker attacker({GetParam(), entry.port});
  unsigned restarts = 0;
  while ((attacker.attempts() < kAttempts || restarts < kRestarts) && attacker.binds() == 0) {
    ASSERT_TRUE(port.serve(dialer, std::span(&inside, 1)));
    ASSERT_TRUE(port.hold());
    ++restarts;
    ::sched_yield();
  }
  EXPECT_EQ(attacker.binds(), 0U) << "after " << restarts << " restarts";
}

/// Another socket has bound the port before the forward, without listening, so both can share it.
TEST_P(HeldPort, PreventsAnEarlierBinderFromListening) {
  port.drain(Duration::zero());
  const UniqueFd before = new_socket(family);
  const int on = 1;
  const SockAddr address = to_sockaddr({GetParam(), entry.port});
  ::setsockopt(before.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  ASSERT_EQ(::bind(before.get(), address.get(), address.length), 0);
  StreamPort again({context, gate, identity}, {.hold = Duration::zero(), .name = "test"}, *this);
  if (!again.bind(addresses(entry))) return;  // refused by the kernel, which is as good
  ASSERT_TRUE(again.hold());
  EXPECT_NE(::listen(before.get(), 1), 0);
}

}  // namespace
}  // namespace portfwd
