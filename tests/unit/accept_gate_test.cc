// Who is let in while descriptors run short: this process's own, with a limit that is nearly
// reached.
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

constexpr int kLimit = 512;  // so the reserve is 64: the busiest wait from 384 on, all from 448 on

struct Listener final : AcceptGate::Member {
  explicit Listener(AcceptGate& gate) : gate_(gate) { gate_.join(*this); }
  ~Listener() { gate_.leave(*this); }
  void on_gate() override { listens = gate_.admits(*this); }
  [[nodiscard]] std::size_t connections() const override { return count; }
  std::size_t count = 0;
  bool listens = true;

 private:
  AcceptGate& gate_;
};

struct AcceptGateTest : testing::Test, AcceptGateObserver {
  void on_descriptors_short(const Error& error) override {
    ++told;
    EXPECT_EQ(error.code, EMFILE);
  }
  void wait() {
    clock.advance(AcceptGate::kRetry);
    ASSERT_TRUE(loop.turn(0s));
  }

  FewDescriptors few{kLimit};
  ManualClock clock;
  EventLoop loop{clock};
  AcceptGate gate{loop, *this};
  Listener busy{gate}, quiet{gate};
  int told = 0;
};

TEST_F(AcceptGateTest, WithEnoughOfThemEverybodyIsAdmitted) {
  gate.accepted(383, busy);
  EXPECT_TRUE(busy.listens && quiet.listens);
  EXPECT_EQ(gate.shortage(), Shortage::None);
  EXPECT_EQ(told, 0);
}

TEST_F(AcceptGateTest, TheBusiestWaitsFirst) {
  busy.count = 100;
  quiet.count = 10;
  gate.accepted(384, busy);
  EXPECT_FALSE(busy.listens);
  EXPECT_TRUE(quiet.listens);
  EXPECT_EQ(gate.kept_waiting(), 1U);
  quiet.count = 51;
  gate.accepted(400, quiet);
  EXPECT_FALSE(quiet.listens) << "it has become one of the busy ones";
  EXPECT_EQ(told, 1);
}

TEST_F(AcceptGateTest, AClientThatWillNeedAFarEndCountsTwice) {
  busy.count = 100;
  {
    const AcceptGate::Claim one(gate);
    const AcceptGate::Claim other(gate);
    gate.accepted(381, busy);
    EXPECT_EQ(gate.shortage(), Shortage::None);
    gate.accepted(382, busy);
    EXPECT_EQ(gate.shortage(), Shortage::BusiestWait);
  }
  few.use_up_to(382);
  wait();
  EXPECT_EQ(gate.shortage(), Shortage::None);
}

TEST_F(AcceptGateTest, WithTheReserveAloneAllWait) {
  busy.count = 100;
  gate.accepted(448, busy);
  EXPECT_FALSE(busy.listens || quiet.listens);
  EXPECT_EQ(gate.shortage(), Shortage::AllWait);
}

TEST_F(AcceptGateTest, WhoHasNobodyIsAdmittedWhileThereIsMoreThanTheReserve) {
  gate.accepted(384, busy);
  EXPECT_TRUE(busy.listens && quiet.listens) << "descriptors are short for other reasons";
  EXPECT_EQ(gate.shortage(), Shortage::BusiestWait);
}

TEST_F(AcceptGateTest, ItComesBackByItselfStepByStep) {
  busy.count = 100;
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

TEST_F(AcceptGateTest, AConnectionThatEndsMakesItLookSoon) {
  busy.count = 100;
  gate.accepted(384, busy);
  gate.descriptor_freed();
  clock.advance(AcceptGate::kSoon);
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_TRUE(busy.listens);
}

/// Pauses and resumes by the hundred belong to one shortage, which ends when nobody waits any more.
TEST_F(AcceptGateTest, AShortageIsToldOnce) {
  busy.count = 100;
  for (int i = 0; i < 100; ++i) {
    gate.accepted(384, busy);
    wait();
  }
  gate.queue_is_empty();
  gate.accepted(384, busy);
  EXPECT_EQ(told, 1) << "for a moment nobody waited";
  wait();
  gate.queue_is_empty();
  clock.advance(1s);
  gate.accepted(384, busy);
  EXPECT_EQ(told, 2);
}

}  // namespace
}  // namespace portfwd
