// The real broker, started by the real client, which makes sockets in real namespaces.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "build_paths.h"
#include "support/broker_fixture.h"
#include "support/deadline.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::BrokerTest;
using testing_support::local_endpoint;
using testing_support::open_ns;
using testing_support::Sandbox;
using testing_support::TestNetns;

const Endpoint kAnyPort{IpAddress::loopback(Family::V4), 0};

std::uint64_t netns_cookie(const UniqueFd& socket) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  EXPECT_EQ(::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size), 0);
  return cookie;
}

int option_of(const UniqueFd& socket, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  EXPECT_EQ(::getsockopt(socket.get(), level, name, &value, &size), 0);
  return value;
}

std::string congestion_control_of(const UniqueFd& socket) {
  std::array<char, 16> name{};
  socklen_t size = name.size();
  EXPECT_EQ(::getsockopt(socket.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), &size), 0);
  return name.data();
}

/// Value of a line of /proc/PID/status.
std::string status_of(pid_t pid, const std::string& key) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key + ":")) continue;
    const auto value = line.find_first_not_of(" \t", key.size() + 1);
    return value == std::string::npos ? "" : line.substr(value);
  }
  return "";
}

/// Waits until the broker sleeps, which it does only between requests: it closes the descriptors of
/// a reply a moment after the test has received them.
void await_rest(pid_t pid) {
  const SystemClock clock;
  const TimePoint limit = clock.now() + testing_support::kDeadline;
  while (!status_of(pid, "State").starts_with("S") && clock.now() < limit) ::sched_yield();
}

std::vector<std::string> open_files_of(pid_t pid) {
  await_rest(pid);
  std::vector<std::string> targets;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd")) {
    targets.push_back(std::filesystem::read_symlink(entry.path()));
  }
  std::ranges::sort(targets);
  return targets;
}

/// Whether a connection from the socket is accepted by the listener.
bool reaches(const UniqueFd& socket, const UniqueFd& listener) {
  testing_support::connect_to(socket, local_endpoint(listener));
  return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid();
}

TEST_F(BrokerTest, SocketsConnectToTheContainersOwnLoopback) {
  const TestNetns container;
  const UniqueFd listener = container.listen(kAnyPort);
  const UniqueFd netns = open_ns(container.pid(), "net");
  const auto made = ask(netns, stream_sockets(Family::V4, 3));
  ASSERT_EQ(made.size(), 3u);
  for (const UniqueFd& socket : made) {
    EXPECT_EQ(netns_cookie(socket), netns_cookie(listener));
    EXPECT_NE(::fcntl(socket.get(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(socket.get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(option_of(socket, IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_NE(option_of(socket, SOL_SOCKET, SO_OOBINLINE), 0);
    EXPECT_NE(congestion_control_of(socket), "bbr");
    EXPECT_TRUE(reaches(socket, listener));
  }
}

TEST_F(BrokerTest, ReturnsAsManySocketsAsOneMessageHolds) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  EXPECT_EQ(ask(netns, stream_sockets(Family::V6, broker::kMaxCount)).size(), broker::kMaxCount);
}

TEST_F(BrokerTest, ANetlinkSocketForDumpsBelongsToTheContainer) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  const auto made = ask(netns, sock_diag_sockets(1));
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(netns_cookie(made[0]), netns_cookie(container.socket(AF_INET, SOCK_STREAM)));
}

TEST_F(BrokerTest, AListenerInsideIsReachedFromInside) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  const auto made =
      ask(netns, listener(Protocol::Tcp, {IpAddress::loopback(Family::V4), 80}, 8, false));
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(local_endpoint(made[0]).text(), "127.0.0.1:80");
  EXPECT_TRUE(reaches(container.socket(AF_INET, SOCK_STREAM), made[0]));
}

TEST_F(BrokerTest, AcceptsIPv4OnAWildcardUnlessV6only) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  const Endpoint any{IpAddress::any(Family::V6), 8080};
  const auto only_v6 = ask(netns, listener(Protocol::Tcp, any, 8, true));
  ASSERT_EQ(only_v6.size(), 1u);
  const Endpoint any_v4{IpAddress::any(Family::V4), 8080};
  EXPECT_EQ(ask(netns, listener(Protocol::Tcp, any_v4, 8, false)).size(), 1u);
  EXPECT_EQ(error_of(netns, listener(Protocol::Tcp, any, 8, false)).code, EADDRINUSE);
}

TEST_F(BrokerTest, AnUdpPortInsideIsBound) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  const auto made =
      ask(netns, listener(Protocol::Udp, {IpAddress::loopback(Family::V4), 53}, 0, false));
  ASSERT_EQ(made.size(), 1u);
  EXPECT_EQ(local_endpoint(made[0]).port, 53);
}

TEST_F(BrokerTest, AFailureNamesItsStep) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  const auto taken = container.listen({IpAddress::loopback(Family::V4), 8080});
  const Error error =
      error_of(netns, listener(Protocol::Tcp, {IpAddress::loopback(Family::V4), 8080}, 8, false));
  EXPECT_EQ(error.code, EADDRINUSE);
  EXPECT_EQ(error.op, "bind");
}

TEST_F(BrokerTest, SharesABrokerPerUserNamespaceIncludingNestedOnes) {
  const Sandbox outer(Sandbox::kUserAndNet, [] {
    static const Sandbox nested;  // lives as long as the outer one
    return nested.pid();
  });
  const UniqueFd outer_netns = open_ns(outer.pid(), "net");
  const UniqueFd nested_netns = open_ns(outer.answer(), "net");
  const auto first = enter(outer_netns);
  const auto second = enter(nested_netns);
  EXPECT_EQ(first, second);
  EXPECT_EQ(ask(outer_netns, stream_sockets(Family::V4, 1)).size(), 1u);
  const auto inside =
      ask(nested_netns, listener(Protocol::Tcp, {IpAddress::any(Family::V4), 80}, 1, false));
  EXPECT_EQ(inside.size(), 1u);
  EXPECT_EQ(brokers.pids().size(), 1u);
  EXPECT_EQ(::kill(outer.answer(), SIGKILL), 0);
}

TEST_F(BrokerTest, NeedsPrivilegeForANamespaceOfTheDaemonsUserNamespace) {
  const Sandbox container(CLONE_NEWNET);
  const UniqueFd netns = open_ns(container.pid(), "net");
  const auto made = ask(netns, stream_sockets(Family::V4, 1));
  ASSERT_EQ(made.size(), 1u);
  const UniqueFd own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(netns_cookie(made[0]), netns_cookie(own));
  BrokerSet unprivileged(loop, launcher, {::geteuid(), false});
  EXPECT_EQ(unprivileged.enter(netns.get()).error().code, EPERM);
}

TEST_F(BrokerTest, AnotherUsersNamespaceIsRefused) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  BrokerSet somebody_else(loop, launcher, {::geteuid() + 1, false});
  EXPECT_EQ(somebody_else.enter(netns.get()).error().code, EPERM);
  BrokerSet owner(loop, launcher, {::geteuid(), false});
  EXPECT_TRUE(owner.enter(netns.get()).has_value());
}

TEST_F(BrokerTest, RejectsNonNamespacesAndNamespacesAbove) {
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(brokers.enter(file.get()).error().code, ENOTTY);
  const UniqueFd above = open_ns(::getppid(), "net");
  if (above.valid()) {  // only root can open the namespace of the test runner
    EXPECT_EQ(brokers.enter(above.get()).error().code, EPERM);
  }
}

TEST_F(BrokerTest, DropsEverythingThatABrokerDoesNotNeed) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  EXPECT_EQ(ask(netns, stream_sockets(Family::V4, 253)).size(), 253u);
  ASSERT_EQ(brokers.pids().size(), 1u);
  const pid_t pid = brokers.pids().front();
  constexpr const char* kSysAdminBindService = "0000000000200400";
  EXPECT_EQ(status_of(pid, "CapPrm"), kSysAdminBindService);
  EXPECT_EQ(status_of(pid, "CapEff"), kSysAdminBindService);
  for (const char* set : {"CapInh", "CapBnd", "CapAmb"}) {
    EXPECT_EQ(status_of(pid, set), "0000000000000000") << set;
  }
  for (const char* mask : {"SigBlk", "SigIgn", "SigCgt"}) {
    constexpr unsigned long kOrdinary = 0x7fffffff;  // glibc ignores its own signals 32 and 33
    EXPECT_EQ(std::stoul(status_of(pid, mask), nullptr, 16) & kOrdinary, 0u) << mask;
  }
  EXPECT_EQ(status_of(pid, "Seccomp"), "2");
  EXPECT_EQ(status_of(pid, "NoNewPrivs"), "1");
  const auto files = open_files_of(pid);
  ASSERT_EQ(files.size(), 2u);
  EXPECT_TRUE(files[0].starts_with("net:["));
  EXPECT_TRUE(files[1].starts_with("socket:["));
  EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/ns/net"), files[0])
      << "between requests it is at home";
}

TEST_F(BrokerTest, AProcessIsSmall) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  EXPECT_EQ(ask(netns, stream_sockets(Family::V4, 253)).size(), 253u);
  const std::string resident = status_of(brokers.pids().front(), "VmRSS");
  EXPECT_LT(std::stoi(resident), 1024) << resident;
  EXPECT_LT(std::filesystem::file_size(PORTFWD_BROKER_PATH), 1'500'000u);
  RecordProperty("rss", resident);
}

TEST_F(BrokerTest, NoContainerIsPinnedBetweenRequests) {
  UniqueFd inside;
  {
    const TestNetns container;
    const UniqueFd netns = open_ns(container.pid(), "net");
    inside = std::move(ask(netns, stream_sockets(Family::V4, 1)).front());
    const std::string own =
        std::filesystem::read_symlink("/proc/" + std::to_string(container.pid()) + "/ns/net");
    for (const std::string& file : open_files_of(brokers.pids().front())) EXPECT_NE(file, own);
  }
}

TEST_F(BrokerTest, LosesOnlyTheCallInFlightWhenKilled) {
  const TestNetns container;
  const UniqueFd listener = container.listen(kAnyPort);
  const UniqueFd netns = open_ns(container.pid(), "net");
  const auto held = ask(netns, stream_sockets(Family::V4, 2));
  const pid_t pid = brokers.pids().front();
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  Pending pending(*this, netns, stream_sockets(Family::V4, 2));
  ASSERT_TRUE(loop.turn(Duration::zero()));  // sent; never answered
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  EXPECT_EQ(pending.wait().error().code, ECONNRESET);
  EXPECT_TRUE(reaches(held[0], listener));
  const auto again = ask(netns, stream_sockets(Family::V4, 1));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_TRUE(reaches(again[0], listener));
  EXPECT_NE(brokers.pids().front(), pid);
  EXPECT_EQ(enter(netns)->failures(), 1u);
}

TEST_F(BrokerTest, RestartsWhenNeededAfterAKillWhileIdle) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(ask(netns, stream_sockets(Family::V4, 1)).size(), 1u);
    ASSERT_EQ(::kill(brokers.pids().front(), SIGKILL), 0);
    wait_until([this] { return brokers.pids().empty(); });
  }
}

TEST_F(BrokerTest, EndsTheBrokerWithItsLastContainer) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  EXPECT_EQ(ask(netns, stream_sockets(Family::V4, 1)).size(), 1u);
  const pid_t pid = brokers.pids().front();
  release();
  EXPECT_TRUE(brokers.pids().empty());
  wait_until([this] { return launcher->dying() == 0; });
  EXPECT_EQ(::kill(pid, 0), -1) << "no zombie is left";
}

TEST_F(BrokerTest, FailsTheCallWhenTheProgramIsMissing) {
  const TestNetns container;
  const UniqueFd netns = open_ns(container.pid(), "net");
  launcher = std::make_shared<SpawnLauncher>(loop, "/nonexistent/portfwd-broker");
  BrokerSet without(loop, launcher, NamespaceOwner::this_process());
  client = without.enter(netns.get()).value();
  EXPECT_EQ(error_of(netns, stream_sockets(Family::V4, 1)).code, ENOENT);
  client.reset();  // the set outlives it
}

}  // namespace
}  // namespace portfwd
