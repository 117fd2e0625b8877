// AcceptGate while file descriptors are short: the limit of the test process is nearly reached.
#include "relay/accept_gate.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "support/few_descriptors.h"
#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::FewDescriptors;
using testing_support::ManualClock;

constexpr int kLimit = 512;  // reserve: 64; the busiest listeners wait from 384 on, all from 448 on

struct Listener {
  explicit Listener(AcceptGate& gate) : member(gate, [this] { listens = member.admitted(); }) {}
  AcceptGate::Member member;
  bool listens = true;
};

struct AcceptGateTest : testing::Test {
  void wait() {
    clock.advance(AcceptGate::kRetry);
    ASSERT_TRUE(loop.turn(0s));
  }

  FewDescriptors few{kLimit};
  ManualClock clock;
  EventLoop loop{clock};
  int shortages = 0;
  AcceptGate gate{loop, [this](const Error& error) {
                    ++shortages;
                    EXPECT_EQ(error.code, EMFILE);
                  }};
  Listener busy{gate}, quiet{gate};
};

TEST_F(AcceptGateTest, AdmitsAllWithEnoughDescriptors) {
  busy.member.accepted(383);
  EXPECT_TRUE(busy.listens && quiet.listens);
  EXPECT_EQ(gate.shortage(), Shortage::None);
  EXPECT_EQ(shortages, 0);
}

TEST_F(AcceptGateTest, PausesTheBusiestFirst) {
  busy.member.set_connections(100);
  quiet.member.set_connections(10);
  busy.member.accepted(384);
  EXPECT_FALSE(busy.listens);
  EXPECT_TRUE(quiet.listens);
  EXPECT_EQ(gate.paused_members(), 1U);
  quiet.member.set_connections(51);
  quiet.member.accepted(400);
  EXPECT_FALSE(quiet.listens) << "it has become one of the busy ones";
  EXPECT_EQ(shortages, 1);
}

TEST_F(AcceptGateTest, CountsAClientThatMustBeDialledForTwice) {
  busy.member.set_connections(100);
  {
    const AcceptGate::Claim one(gate);
    const AcceptGate::Claim other(gate);
    busy.member.accepted(381);
    EXPECT_EQ(gate.shortage(), Shortage::None);
    busy.member.accepted(382);
    EXPECT_EQ(gate.shortage(), Shortage::BusiestWait);
  }
  few.use_up_to(382);
  wait();
  EXPECT_EQ(gate.shortage(), Shortage::None);
}

TEST_F(AcceptGateTest, PausesAllWithinTheReserve) {
  busy.member.set_connections(100);
  busy.member.accepted(448);
  EXPECT_FALSE(busy.listens || quiet.listens);
  EXPECT_EQ(gate.shortage(), Shortage::AllWait);
}

TEST_F(AcceptGateTest, AdmitsAListenerWithoutConnectionsAboveTheReserve) {
  busy.member.accepted(384);
  EXPECT_TRUE(busy.listens && quiet.listens) << "descriptors are short for other reasons";
  EXPECT_EQ(gate.shortage(), Shortage::BusiestWait);
}

TEST_F(AcceptGateTest, ResumesStepByStep) {
  busy.member.set_connections(100);
  few.use_up_to(448);
  gate.close({EMFILE, "accept"});
  wait();
  EXPECT_EQ(gate.shortage(), Shortage::AllWait);
  few.use_up_to(400);
  wait();
  EXPECT_EQ(gate.shortage(), Shortage::BusiestWait);
  EXPECT_FALSE(busy.listens);
  EXPECT_TRUE(quiet.listens);
  few.use_up_to(300);
  wait();
  EXPECT_EQ(gate.shortage(), Shortage::None);
  EXPECT_TRUE(busy.listens && quiet.listens);
}

TEST_F(AcceptGateTest, ResumesSoonAfterAConnectionHasEnded) {
  busy.member.set_connections(100);
  busy.member.accepted(384);
  gate.descriptor_freed();
  clock.advance(AcceptGate::kEarliestRetry);
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_TRUE(busy.listens);
}

/// Hundreds of pauses belong to one shortage, which ends when no listener waits any longer.
TEST_F(AcceptGateTest, ReportsAShortageOnce) {
  busy.member.set_connections(100);
  for (int i = 0; i < 100; ++i) {
    busy.member.accepted(384);
    wait();
  }
  gate.set_queue_empty();
  busy.member.accepted(384);
  EXPECT_EQ(shortages, 1) << "no listener waited for a moment";
  wait();
  gate.set_queue_empty();
  clock.advance(1s);
  busy.member.accepted(384);
  EXPECT_EQ(shortages, 2);
}

}  // namespace
}  // namespace portfwd
