// Pace of polling, in simulated time: a poll advances the clock and the CPU meter by its cost.
#include "access/pace.h"

#include <gtest/gtest.h>

#include <memory>

#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::ManualClock;

struct PaceTest : testing::Test {
  struct Probe final : Pollable {
    explicit Probe(PaceTest& test, Duration quick_cost = 4us, Duration full_cost = 15us)
        : owner(test), quick(quick_cost), full(full_cost), slot(test.pace, *this) {}
    Depth poll(Depth depth) override {
      if (changed) depth = Depth::Full;
      owner.work(depth == Depth::Full ? full : quick);
      longest = std::max(longest, owner.clock.now() - last);
      last = owner.clock.now();
      ++looks;
      fulls += depth == Depth::Full ? 1 : 0;
      if (then) then();
      return depth;
    }
    PaceTest& owner;
    Duration quick, full;
    bool changed = false;  ///< reported by each poll
    int looks = 0;
    int fulls = 0;
    TimePoint last = owner.clock.now();
    Duration longest{};
    std::move_only_function<void()> then;
    PollSlot slot;
  };

  void work(Duration cost) {
    clock.advance(cost);
    cpu += cost;
  }

  /// Runs the loop through `time` in steps of half a millisecond.
  void pass(Duration time, const std::function<void()>& each_step = {}) {
    for (const TimePoint end = clock.now() + time; clock.now() < end; clock.advance(500us)) {
      if (each_step) each_step();
      ASSERT_TRUE(loop.turn(0ns));
    }
  }

  std::vector<std::unique_ptr<Probe>> probes(int n) {
    std::vector<std::unique_ptr<Probe>> all;
    for (int i = 0; i < n; ++i) all.push_back(std::make_unique<Probe>(*this));
    return all;
  }

  /// Percent of one core over `time`, wake-ups included.
  double load_over(Duration time, const std::function<void()>& each_step = {}) {
    const Duration before = pace.total_cost();
    const TimePoint began = clock.now();
    pass(time, each_step);
    return 100.0 * static_cast<double>((pace.total_cost() - before).count()) /
           static_cast<double>((clock.now() - began).count());
  }

  ManualClock clock;
  EventLoop loop{clock};
  Duration cpu{};
  Settings::Detect settings;
  Pace pace{loop, settings, [this] { return cpu; }};
};

TEST_F(PaceTest, PollsANewSlotInTheNextTurn) {
  Probe probe(*this);
  ASSERT_TRUE(loop.turn(0ns));
  EXPECT_EQ(probe.looks, 1);
  EXPECT_EQ(probe.fulls, 1);
}

TEST_F(PaceTest, PollsTenIdleContainersEachMinIntervalWithinTheBudget) {
  const auto all = probes(10);
  pass(16s);
  all.front()->longest = {};
  EXPECT_LE(load_over(10s), 0.5);
  EXPECT_LE(all.front()->longest, 25ms);
  EXPECT_EQ(pace.interval(), 20ms);
}

TEST_F(PaceTest, PollsTwoHundredContainersWithinASecondAndTheBudget) {
  const auto all = probes(200);
  pass(16s);
  for (const auto& probe : all) probe->longest = {};
  EXPECT_LE(load_over(10s), 0.5);
  for (const auto& probe : all) EXPECT_LE(probe->longest, 1s);
  EXPECT_GT(pace.interval(), 100ms);
}

TEST_F(PaceTest, PollsSoonAndOftenAfterASignOfLife) {
  const auto all = probes(200);
  pass(20s);
  Probe& one = *all.front();
  one.looks = 0;
  one.slot.expedite();
  pass(10ms);
  EXPECT_GE(one.looks, 2) << "a quick server is found within 10 ms";
  one.longest = {};
  pass(10s);
  EXPECT_LE(one.longest, 60ms);
  pass(10s);
  one.longest = {};
  pass(2s);
  EXPECT_GT(one.longest, 100ms) << "the sign of life is forgotten after 15 s";
}

/// Servers that close one after another may return at once, but this must not last for seconds.
TEST_F(PaceTest, LeavesBudgetToTheNextServerAfterCloses) {
  settings.cpu_budget = 0.3;
  pace.configure(settings);
  const auto all = probes(10);
  pass(20s);
  for (std::size_t close = 0; close < 8; ++close) {
    Probe& closed = *all.at(1 + close);
    closed.looks = 0;
    closed.slot.expect_reopen();
    pass(100ms);
    EXPECT_GE(closed.looks, 10) << "needed to find a server that reloads";
    pass(900ms);
  }
  Probe& one = *all.front();
  one.slot.expedite();
  pass(10ms);
  one.longest = {};
  pass(200ms);
  EXPECT_LE(one.longest, 9ms);
}

TEST_F(PaceTest, AnExpectedReturnDoesNotCutTheTimeOfAProgramThatStarts) {
  const auto all = probes(1);
  pass(20s);
  Probe& one = *all.front();
  one.slot.expedite();
  pass(100ms);
  one.slot.expect_reopen();
  pass(300ms);
  one.longest = {};
  pass(500ms);
  EXPECT_LE(one.longest, 9ms);
}

/// A server that was executed begins to listen after some 100 ms.
TEST_F(PaceTest, PollsEveryFewMillisecondsInTheFirstSecondAfterASignOfLife) {
  settings.cpu_budget = 0.3;
  pace.configure(settings);
  const auto all = probes(10);
  pass(20s);
  Probe& one = *all.front();
  one.slot.expedite();
  pass(10ms);
  one.longest = {};
  pass(990ms);
  EXPECT_LE(one.longest, 9ms);
  pass(1s);
  EXPECT_LE(one.longest, 25ms);
}

/// Servers are started in one sandbox after the other, and listen 100 ms later.
TEST_F(PaceTest, KeepsTheFirstPollsAcrossKnownStarts) {
  settings.cpu_budget = 0.3;
  pace.configure(settings);
  const auto all = probes(10);
  for (const auto& probe : all) probe->quick = 25us;
  pass(20s);
  for (const auto& probe : all) {
    probe->slot.expedite();
    pass(10ms);
    probe->longest = {};
    pass(90ms);
    EXPECT_LE(probe->longest, 9ms);
    probe->slot.slow_down();
    pass(1300ms);
  }
}

/// Such as a poll of /proc/PID/net for a container of root.
TEST_F(PaceTest, KeepsTheFirstPollsAcrossExpensivePollsOfOthers) {
  settings.cpu_budget = 0.3;
  pace.configure(settings);
  const auto all = probes(10);
  for (const auto& probe : all) probe->quick = 10us;
  Probe dear(*this, 4us, 10ms);
  pass(20s);
  dear.slot.request_full_poll();
  pass(3s);
  Probe& one = *all.front();
  one.looks = 0;
  one.slot.expedite();
  pass(10ms);
  EXPECT_GE(one.looks, 2);
}

TEST_F(PaceTest, KeepsTheBudgetWhenAnExpensiveSlotChangesAllTheTime) {
  settings.cpu_budget = 0.3;
  pace.configure(settings);
  const auto all = probes(10);
  Probe dear(*this, 4us, 10ms);
  pass(20s);
  EXPECT_LE(load_over(60s, [&] { dear.slot.request_full_poll(); }), 0.4);
  EXPECT_GT(dear.fulls, 5);
}

/// Such as a container of root with a second server, for which a helper with cheaper polls may be
/// started.
TEST_F(PaceTest, PollsAChangedExpensiveSlotTwiceBeforeItIsDelayed) {
  settings.cpu_budget = 0.3;
  pace.configure(settings);
  Probe dear(*this, 4us, 9ms);
  pass(60s);
  for (int news = 1; news <= 2; ++news) {
    dear.fulls = 0;
    dear.slot.request_full_poll();
    pass(100ms);
    EXPECT_EQ(dear.fulls, 1) << "news " << news;
  }
  dear.full = 15us;
  dear.slot.reset_costs();
  for (int news = 1; news <= 9; ++news) {
    dear.fulls = 0;
    dear.slot.request_full_poll();
    pass(100ms);
    EXPECT_GE(dear.fulls, 1) << "cheap news " << news;
  }
}

TEST_F(PaceTest, DoesNotDelayTheFirstPollsForSignsOfLifeOfOthers) {
  settings.cpu_budget = 0.3;
  pace.configure(settings);
  const auto all = probes(10);
  for (const auto& probe : all) probe->quick = 10us;
  pass(20s);
  for (int i = 0; i < 40; ++i) {
    Probe& one = *all[static_cast<std::size_t>(i) % all.size()];
    pass(1600ms);
    one.looks = 0;
    one.slot.expedite();
    pass(10ms);
    EXPECT_GE(one.looks, 2) << "sign " << i;
  }
}

TEST_F(PaceTest, HintsWithoutEndStayWithinTheBudget) {
  const auto all = probes(20);
  pass(20s);
  EXPECT_LE(load_over(10s,
                      [&] {
                        for (const auto& p : all) p->slot.expedite();
                      }),
            0.65);
}

TEST_F(PaceTest, KeepsTheBudgetAndTheRoundDuringEndlessChanges) {
  const auto all = probes(10);
  pass(20s);
  Probe& noisy = *all.front();
  Probe& other = *all.back();
  noisy.full = 2ms;
  noisy.changed = true;
  pass(5s);
  other.longest = {};
  EXPECT_LE(load_over(30s, [&] { noisy.slot.request_full_poll(); }), 0.75);
  EXPECT_LE(other.longest, 250ms);
}

TEST_F(PaceTest, PollsInFullAtOnceAfterAChange) {
  Probe probe(*this);
  pass(20s);
  probe.looks = probe.fulls = 0;
  probe.slot.request_full_poll();
  ASSERT_TRUE(loop.turn(0ns));
  EXPECT_EQ(probe.fulls, 1);
}

TEST_F(PaceTest, PollsAtOnceAfterAChangeBesideManyQuickSlots) {
  const auto all = probes(200);
  pass(3s, [&] {
    for (const auto& p : all) p->slot.expedite();
  });
  for (int i = 0; i < 20; ++i) {
    pass(100ms, [&] {
      for (const auto& p : all) p->slot.expedite();
    });
    EXPECT_TRUE(all.front()->slot.can_spend());
    all.front()->fulls = 0;
    all.front()->slot.request_full_poll();
    ASSERT_TRUE(loop.turn(0ns));
    EXPECT_EQ(all.front()->fulls, 1);
  }
}

TEST_F(PaceTest, DelaysChangesWhileTheBucketIsEmpty) {
  Probe probe(*this);
  pass(20s);
  probe.slot.charge(100ms);
  EXPECT_FALSE(probe.slot.can_spend());
  probe.looks = probe.fulls = 0;
  probe.slot.request_full_poll();
  ASSERT_TRUE(loop.turn(0ns));
  EXPECT_EQ(probe.looks, 0);
  pass(60s);
  EXPECT_TRUE(probe.slot.can_spend());
  EXPECT_GT(probe.fulls, 0);
}

TEST_F(PaceTest, PollsInFullAtTimesWithoutACause) {
  Probe probe(*this);
  pass(16s);
  probe.fulls = 0;
  pass(10s);
  EXPECT_GE(probe.fulls, 30);
  EXPECT_LE(probe.fulls, 41) << "at most every 250 ms";
}

TEST_F(PaceTest, SpreadsFullPollsWithoutACauseOverTheRounds) {
  const auto all = probes(200);
  pass(20s);
  int most = 0;
  for (int i = 0; i < 20000; ++i) {
    int before = 0, after = 0;
    for (const auto& p : all) before += p->fulls;
    pass(500us);
    for (const auto& p : all) after += p->fulls;
    most = std::max(most, after - before);
  }
  EXPECT_LE(most, 50);
}

TEST_F(PaceTest, KeepsAFixedIntervalAtAnyCost) {
  settings.interval = 5ms;
  pace.configure(settings);
  Probe probe(*this, 1ms, 1ms);
  pass(1s);
  EXPECT_GE(probe.looks, 150);
  EXPECT_EQ(pace.interval(), 5ms);
}

TEST_F(PaceTest, AFixedIntervalIsKeptAfterASignOfLifeToo) {
  settings.interval = 500ms;
  pace.configure(settings);
  Probe probe(*this);
  pass(2s);
  probe.looks = 0;
  probe.slot.expedite();
  pass(10s);
  EXPECT_GE(probe.looks, 19);
  EXPECT_LE(probe.looks, 21);
}

TEST_F(PaceTest, PermitsDestroyingASlotDuringAPoll) {
  auto all = probes(3);
  all[0]->then = [&] { all[1].reset(), all[2].reset(); };
  ASSERT_TRUE(loop.turn(0ns));
  pass(1s);
  EXPECT_GT(all[0]->looks, 1);
}

TEST_F(PaceTest, PermitsAddingASlotDuringAPoll) {
  Probe first(*this);
  std::unique_ptr<Probe> second;
  first.then = [&] {
    if (!second) second = std::make_unique<Probe>(*this);
  };
  pass(100ms);
  EXPECT_GE(second->looks, 2);
}

TEST_F(PaceTest, DisarmsTheTimerWithoutSlots) {
  probes(3).clear();
  pass(1s);
  EXPECT_EQ(pace.total_cost(), 0ns);
}

TEST_F(PaceTest, JoinsPollsOfDifferentSlotsInOneWakeUp) {
  std::vector<std::unique_ptr<Probe>> all;
  for (int i = 0; i < 8; ++i) {
    all.push_back(std::make_unique<Probe>(*this));
    pass(2500us);
  }
  pass(20s);
  EXPECT_LE(load_over(10s), 100.0 * (8 * 15e-6 + 25e-6) / 20e-3);
}

TEST(ThreadCpuTime, GoesUpWithWorkAndStandsStillWhileWaiting) {
  const Duration before = thread_cpu_time();
  for (const auto until = std::chrono::steady_clock::now() + 2ms;
       std::chrono::steady_clock::now() < until;) {
  }
  EXPECT_GT(thread_cpu_time(), before);
}

}  // namespace
}  // namespace portfwd
