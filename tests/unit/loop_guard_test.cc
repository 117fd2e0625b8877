// LoopGuard: detection of forwards that lead to themselves, in simulated time.
#include "relay/loop_guard.h"

#include <gtest/gtest.h>

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using Step = LoopGuard::Step;

struct LoopGuardTest : testing::Test {
  Step client() { return guard.on_client(now, from_target); }
  void connect() { guard.on_connected(now); }
  /// One pass through a loop that takes `hop`.
  Step go_round(Duration hop = 2ms) {
    connect();
    now += hop;
    return client();
  }
  void end_hold() {
    now = guard.held_until();
    guard.on_hold_over();
  }
  /// Opens connections as a loop does, until one is held.
  unsigned clients_until_held() {
    for (unsigned clients = 1; clients < 1000; ++clients) {
      if (go_round() == Step::Hold) return clients;
    }
    return 0;
  }
  /// A whole loop, from its first client on.
  void find_loop() {
    EXPECT_EQ(client(), Step::Dial);
    EXPECT_EQ(clients_until_held(), LoopGuard::kBurst);
    for (std::size_t round = 1; round < LoopGuard::kHolds.size(); ++round) {
      end_hold();
      EXPECT_EQ(go_round(), Step::Hold) << "round " << round;
    }
    end_hold();
    EXPECT_EQ(go_round(), Step::ResetBurst);
  }

  LoopGuard guard;
  TimePoint now{1h};
  std::uint64_t from_target = 0;
};

TEST_F(LoopGuardTest, FindsALoopAndRefusesForAWhile) {
  find_loop();
  EXPECT_TRUE(guard.found());
  EXPECT_EQ(client(), Step::Refuse);
  now += LoopGuard::kRefusalTime - 1s;
  EXPECT_EQ(client(), Step::Refuse);
  now += 1s;
  EXPECT_EQ(client(), Step::Dial);
}

TEST_F(LoopGuardTest, FindsALoopSoonerWhenItWasFoundBefore) {
  find_loop();
  now += LoopGuard::kRefusalTime;
  EXPECT_EQ(client(), Step::Dial);
  EXPECT_EQ(clients_until_held(), LoopGuard::kRepeated);
}

TEST_F(LoopGuardTest, FindsTwoLoopsThroughOnePort) {
  EXPECT_EQ(client(), Step::Dial);
  EXPECT_EQ(client(), Step::Dial);
  bool found = false;
  std::size_t under_way = 2;
  for (int turns = 0; turns < 200 && !found; ++turns) {
    for (std::size_t i = 0; i < under_way; ++i) connect();
    now += 3ms;
    std::size_t held = 0;
    std::size_t dialled = 0;
    for (std::size_t i = 0; i < under_way; ++i) {
      const Step step = client();
      held += step == Step::Hold ? 1 : 0;
      dialled += step == Step::Dial ? 1 : 0;
      found = found || step == Step::ResetBurst;
    }
    if (held > 0 && dialled > 0) {  // the dialled connections pass through the loop again
      for (std::size_t i = 0; i < dialled; ++i) connect();
      now += 3ms;
      for (std::size_t i = 0; i < dialled; ++i) EXPECT_EQ(client(), Step::Hold);
    }
    if (held > 0) end_hold();
  }
  EXPECT_TRUE(found);
}

TEST_F(LoopGuardTest, EndsSuspicionForAnUnexplainedClient) {
  EXPECT_EQ(client(), Step::Dial);
  ASSERT_EQ(clients_until_held(), LoopGuard::kBurst);
  now += 1ms;
  EXPECT_EQ(client(), Step::Dial);
  EXPECT_FALSE(guard.holding());
  for (unsigned i = 0; i < 5 * LoopGuard::kBurst; ++i) {
    EXPECT_EQ(go_round(), Step::Dial) << "must not be suspected again at once";
  }
}

TEST_F(LoopGuardTest, EndsSuspicionIfNoClientFollowsAHeldOne) {
  EXPECT_EQ(client(), Step::Dial);
  ASSERT_EQ(clients_until_held(), LoopGuard::kBurst);
  end_hold();
  EXPECT_FALSE(guard.holding());
  EXPECT_EQ(go_round(LoopGuard::kMaxFollowDelay + 1ms), Step::Dial);
}

/// If all holds had the same length, each client would be dialled for and followed by the next one.
TEST_F(LoopGuardTest, EndsSuspicionOfAPeriodicClient) {
  for (Duration period = 10ms; period <= 300ms; period += 1ms) {
    SCOPED_TRACE(period.count());
    guard = LoopGuard();
    from_target = 0;
    EXPECT_EQ(client(), Step::Dial);
    ASSERT_EQ(clients_until_held(), LoopGuard::kBurst);
    TimePoint next = now;
    for (int clients = 0; clients < 20; ++clients) {
      next += period;
      if (guard.holding() && guard.held_until() <= next) {
        end_hold();
        connect();
      }
      now = next;
      const Step step = client();
      EXPECT_NE(step, Step::ResetBurst);
      if (step == Step::Dial) connect();
    }
  }
}

TEST_F(LoopGuardTest, DoesNotSuspectClientsThatGetAnswers) {
  EXPECT_EQ(client(), Step::Dial);
  for (int i = 0; i < 500; ++i) {
    connect();
    now += 1ms;
    ++from_target;
    EXPECT_EQ(client(), Step::Dial);
  }
}

/// Like a client that reconnects whenever the server closes.
TEST_F(LoopGuardTest, DoesNotSuspectClientsThatReconnect) {
  EXPECT_EQ(client(), Step::Dial);
  for (int i = 0; i < 500; ++i) {
    connect();
    now += 1ms;
    guard.on_ended(now);
    EXPECT_EQ(client(), Step::Dial);
  }
}

TEST_F(LoopGuardTest, DoesNotSuspectClientsThatDoNotWaitForTheDial) {
  for (int turns = 0; turns < 50; ++turns) {
    for (unsigned i = 0; i <= LoopGuard::kParallel; ++i) EXPECT_EQ(client(), Step::Dial);
    for (unsigned i = 0; i <= LoopGuard::kParallel; ++i) connect();
    now += 1ms;
  }
}

TEST_F(LoopGuardTest, EndsSuspicionIfAConnectionEnds) {
  EXPECT_EQ(client(), Step::Dial);
  ASSERT_EQ(clients_until_held(), LoopGuard::kBurst);
  guard.on_ended(now);
  EXPECT_FALSE(guard.holding());
}

TEST_F(LoopGuardTest, ForgetsALoopWhenTheTargetIsAnotherOne) {
  find_loop();
  const std::uint32_t burst = guard.burst();
  guard.reset();
  EXPECT_FALSE(guard.found());
  EXPECT_NE(guard.burst(), burst);
  EXPECT_EQ(client(), Step::Dial);
}

TEST_F(LoopGuardTest, ForgetsALoopWhenTheTargetAnswers) {
  find_loop();
  now += LoopGuard::kRefusalTime;
  ++from_target;
  EXPECT_EQ(client(), Step::Dial);
  EXPECT_FALSE(guard.found());
}

}  // namespace
}  // namespace portfwd
