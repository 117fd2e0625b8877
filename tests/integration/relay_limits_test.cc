// Limits of clients of one forward: in total, in one turn, and while descriptors are short; no
// client is lost.
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "support/deadline.h"
#include "support/forward_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

TEST(ForwardPortLimitTest, QueuesClientsBeyondMaxConnections) {
  ForwardRig rig({.max_connections = 2, .name = "test"});
  rig.start();
  auto [one, one_inside] = rig.connect_through();
  auto [two, two_inside] = rig.connect_through();
  const UniqueFd three = connect_to_port(kBoth[0]);
  ASSERT_TRUE(rig.loop.turn(20ms));
  EXPECT_EQ(rig.port->counters().total, 2U);
  one.reset();
  one_inside.reset();
  const UniqueFd three_inside = rig.accept_inside();
  write_all(three_inside, "your turn");
  EXPECT_EQ(rig.receive(three, 9).text, "your turn");
}

/// The first turn accepts one client, since a client is usually alone in the backlog. Each
/// following turn accepts twice as many as the previous one.
TEST(ForwardPortLimitTest, DoublesTheAcceptLimitInSuccessiveTurns) {
  ForwardRig rig;
  rig.start();
  const StreamPair first = rig.connect_through();
  ASSERT_TRUE(rig.loop.turn(0s));
  std::vector<UniqueFd> clients;
  while (clients.size() < 40) clients.push_back(connect_to_port(kBoth[0]));
  for (const std::uint64_t total : {1U, 3U, 7U, 15U, 31U, 40U}) {
    ASSERT_TRUE(rig.loop.turn(20ms));
    EXPECT_EQ(rig.port->counters().total, 1 + total);
  }
}

TEST(ForwardPortLimitTest, AcceptsALimitedNumberInOneTurn) {
  ForwardRig rig;
  rig.start();
  constexpr std::uint64_t kMost = TcpListener::kAcceptsPerTurn;
  std::vector<UniqueFd> clients;
  while (clients.size() < 2 * kMost) clients.push_back(connect_to_port(kBoth[0]));
  ASSERT_TRUE(rig.loop.turn(20ms));
  EXPECT_EQ(rig.port->counters().total, kMost);
  EXPECT_TRUE(rig.until([&] { return rig.port->counters().total == 2 * kMost; }));
}

/// The daemon's side runs in a child process with few descriptors; clients and target are in the
/// test.
TEST(ForwardPortLimitTest, PausesWithoutDescriptorsAndLosesNoClient) {
  constexpr int kClients = 60;
  const UniqueFd target = listen_on_loopback(Family::V4);
  const Endpoint there = *local_endpoint(target.get());
  auto [ours, theirs] = stream_pair(StreamKind::Unix);
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ours.reset();
    const rlimit few{64, 64};
    ::setrlimit(RLIMIT_NOFILE, &few);
    ForwardRig rig;
    rig.target.reset();
    const ListenAddress listener{there, false};
    const bool up = rig.bind() && rig.port->serve(rig.dialer, std::span(&listener, 1)).has_value();
    write_all(theirs, up ? "up" : "no");
    while (!wait_for(theirs.get(), POLLIN, 0)) (void)rig.loop.turn(10ms);
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const bool spun = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec > 0;
    const Counters& counters = rig.port->counters();
    const bool all = counters.total == kClients && counters.failed == 0;
    ::_exit((rig.shortages == 1 ? 0 : 1) + (all ? 0 : 2) + (spun ? 4 : 0));
  }
  theirs.reset();
  ASSERT_TRUE(wait_for(ours.get(), POLLIN));
  Received up;
  read_available(ours, up);
  ASSERT_EQ(up.text, "up");
  std::vector<UniqueFd> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(connect_to_port(kBoth[0]));
  int served = 0;
  std::vector<UniqueFd> inside;
  while (wait_for(target.get(), POLLIN, 300)) inside.push_back(accept_from(target)), ++served;
  EXPECT_LT(served, kClients) << "64 descriptors cannot be enough";
  EXPECT_GT(served, 10);
  clients.erase(clients.begin(), clients.begin() + served);
  inside.clear();
  const auto was_served = [](const UniqueFd& client) {
    if (!wait_for(client.get(), POLLIN, 0)) return false;
    Received got;
    read_available(client, got);
    EXPECT_EQ(got.ending, Ending::Fin) << "served and ended, not reset";
    return true;
  };
  const TimePoint deadline = SystemClock().now() + kDeadline;
  while (!clients.empty() && SystemClock().now() < deadline) {
    if (wait_for(target.get(), POLLIN, 10)) accept_from(target).reset();
    std::erase_if(clients, was_served);
  }
  EXPECT_TRUE(clients.empty()) << clients.size() << " are still waiting";
  write_all(ours, "end");
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace portfwd
