// A forward whose target leads back to its own host port, and pools of clients that must not be
// mistaken for such a loop.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <vector>

#include "support/forward_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

constexpr std::size_t kPool = 200;

struct LoopTest : testing::Test {
  LoopTest() {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    rig.start();
  }

  /// Accepts all connections that wait at the target.
  std::vector<UniqueFd> arrivals() {
    std::vector<UniqueFd> out;
    while (wait_for(rig.target.get(), POLLIN, 0)) out.push_back(accept_from(rig.target));
    return out;
  }
  /// Makes one more connection to the host port for each one that arrives inside, as `ssh -R` does.
  void extend_loop() {
    for (UniqueFd& inside : arrivals()) {
      loop.push_back(std::move(inside));
      loop.push_back(connect_to_port(kBoth[loop.size() / 2 % 2]));
    }
  }
  bool found() { return rig.target_refusals > 0; }
  void find_loop() {
    loop.push_back(connect_to_port(kBoth[0]));
    ASSERT_TRUE(rig.until([&] {
      extend_loop();
      return found();
    }));
  }
  void expect_all_served(std::size_t clients) {
    EXPECT_TRUE(rig.until([&] {
      for (UniqueFd& inside : arrivals()) inside_.push_back(std::move(inside));
      return rig.port->counters().active == clients;
    })) << rig.port->counters().active;
    EXPECT_FALSE(found());
    EXPECT_EQ(rig.port->counters().failed, 0U);
    EXPECT_EQ(rig.port->waiting(), 0U);
  }

  ForwardRig rig;
  std::vector<UniqueFd> loop;
  std::vector<UniqueFd> clients_;
  std::vector<UniqueFd> inside_;
};

TEST_F(LoopTest, IsFoundAndItsConnectionsAreReset) {
  ASSERT_NO_FATAL_FAILURE(find_loop());
  EXPECT_EQ(rig.last_refusal.op, kLeadsBack.op);
  EXPECT_GE(rig.port->counters().total, LoopGuard::kBurst);
  EXPECT_EQ(rig.port->counters().active, 0U);
  EXPECT_EQ(rig.port->waiting(), 0U);
  EXPECT_EQ(rig.ending_of(loop.front()), Ending::Reset);
}

TEST_F(LoopTest, RefusesFurtherClients) {
  ASSERT_NO_FATAL_FAILURE(find_loop());
  const std::uint64_t before = rig.port->counters().total;
  const UniqueFd client = connect_to_port(kBoth[0]);
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  EXPECT_EQ(rig.port->counters().total, before + 1);
  EXPECT_TRUE(arrivals().empty());
}

TEST_F(LoopTest, IsForgottenWhenTheListenerChanges) {
  ASSERT_NO_FATAL_FAILURE(find_loop());
  rig.target = listen_on_loopback(Family::V4);
  ASSERT_TRUE(rig.serve());
  auto [client, inside] = rig.connect_through();
  write_all(inside, "a server");
  EXPECT_EQ(rig.receive(client, 8).text, "a server");
}

/// The bytes that the client has sent pass through the loop as well.
TEST_F(LoopTest, IsFoundAlthoughBytesPassThroughIt) {
  loop.push_back(connect_to_port(kBoth[0]));
  write_all(loop.back(), "hello");
  ASSERT_TRUE(rig.until([&] {
    for (UniqueFd& inside : arrivals()) {
      loop.push_back(std::move(inside));
      loop.push_back(connect_to_port(kBoth[0]));
      write_all(loop.back(), "hello");
    }
    return found();
  }));
}

TEST_F(LoopTest, LosesNoClientThatIsHeldWhenTheListenerGoes) {
  loop.push_back(connect_to_port(kBoth[0]));
  ASSERT_TRUE(rig.until([&] {
    if (rig.port->counters().total > LoopGuard::kBurst && rig.port->waiting() == 1 &&
        arrivals().empty()) {
      return true;
    }
    extend_loop();
    return false;
  }));
  ASSERT_TRUE(rig.hold());
  EXPECT_EQ(rig.port->waiting(), 1U);
  rig.target = listen_on_loopback(Family::V4);
  ASSERT_TRUE(rig.serve());
  write_all(rig.accept_inside(), "a server");
  EXPECT_EQ(rig.receive(loop.back(), 8).text, "a server");
}

TEST_F(LoopTest, IsNotFoundInAPoolThatIsOpenedAtOnce) {
  while (clients_.size() < kPool) clients_.push_back(connect_to_port(kBoth[0]));
  expect_all_served(kPool);
}

/// The client connects as fast as the forward accepts.
TEST_F(LoopTest, IsNotFoundInAPoolThatIsOpenedOneByOne) {
  while (clients_.size() < kPool) {
    clients_.push_back(connect_to_port(kBoth[0]));
    (void)rig.loop.turn(0ms);
    (void)rig.loop.turn(0ms);
    for (UniqueFd& inside : arrivals()) inside_.push_back(std::move(inside));
  }
  expect_all_served(kPool);
}

TEST_F(LoopTest, IsNotFoundInAPoolThatWaitsForEachGreeting) {
  while (clients_.size() < kPool) {
    auto [client, inside] = rig.connect_through();
    write_all(inside, "220 ready");
    ASSERT_EQ(rig.receive(client, 9).text, "220 ready");
    clients_.push_back(std::move(client));
    inside_.push_back(std::move(inside));
  }
  expect_all_served(kPool);
}

TEST_F(LoopTest, IsNotFoundInAPoolThatWaitsForEachAnswer) {
  while (clients_.size() < kPool) {
    auto [client, inside] = rig.connect_through();
    write_all(client, "PING");
    ASSERT_EQ(rig.receive(inside, 4).text, "PING");
    write_all(inside, "PONG");
    ASSERT_EQ(rig.receive(client, 4).text, "PONG");
    clients_.push_back(std::move(client));
    inside_.push_back(std::move(inside));
  }
  expect_all_served(kPool);
}

/// Each attempt is caused by the previous one, without a byte from the target.
TEST_F(LoopTest, IsNotFoundInAClientThatReconnects) {
  for (std::size_t attempts = 0; attempts < kPool; ++attempts) {
    auto [client, inside] = rig.connect_through();
    inside.reset();
    ASSERT_EQ(rig.ending_of(client), Ending::Fin);
  }
  EXPECT_FALSE(found());
}

}  // namespace
}  // namespace portfwd
