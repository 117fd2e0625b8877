// ScanPace: rate limit of scans and checks, in simulated time.
#include <gtest/gtest.h>

#include "discover/discovery.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

constexpr double kBudget = 0.004;  // each half saves at most 10 ms of CPU time, in 5 s

struct ScanPaceTest : testing::Test {
  TimePoint now = TimePoint(100s);
  ScanPace pace{kBudget, now};
};

TEST_F(ScanPaceTest, RequestsAFullScanAtTheStart) {
  EXPECT_LE(pace.due(now), now);
  EXPECT_LE(pace.full_due(), now);
}

TEST_F(ScanPaceTest, SchedulesOnlyFullScansWithoutARequest) {
  pace.begin_scan();
  pace.end_scan(now, 1ms, true);
  EXPECT_EQ(pace.due(now), now + 5s);
}

TEST_F(ScanPaceTest, SchedulesARequestedScanAfterTheGapAndSoonerWhileExpedited) {
  pace.end_scan(now, 100us, true);
  pace.request();
  EXPECT_EQ(pace.due(now), now + 100ms);
  pace.expedite(now);
  EXPECT_EQ(pace.due(now), now + 20ms);
  EXPECT_TRUE(pace.expedited(now + 999ms));
  EXPECT_FALSE(pace.expedited(now + 1s));
}

TEST_F(ScanPaceTest, KeepsARequestDuringAScanForTheNext) {
  pace.begin_scan();
  pace.request();
  pace.end_scan(now, 100us, true);
  EXPECT_EQ(pace.due(now), now + 100ms);
}

TEST_F(ScanPaceTest, KeepsTheBudgetBesidesFullScans) {
  const TimePoint end = now + 60s;
  Duration paced{};
  while (now < end) {
    pace.expedite(now);
    now = std::max(now, pace.due(now));
    const bool full = pace.full_due() <= now;
    pace.end_scan(now, 1ms, full);
    if (!full) paced += 1ms;
  }
  EXPECT_LE(paced, 60s * kBudget / 2 + 10ms);
  EXPECT_GE(paced, 60s * kBudget / 4) << "the budget is used";
}

TEST_F(ScanPaceTest, DelaysTheNextScanByAtMostASecond) {
  pace.end_scan(now, 1s, true);
  pace.request();
  EXPECT_EQ(pace.due(now), now + 1s);
}

TEST_F(ScanPaceTest, DelaysChecksByTheirOwnCredit) {
  pace.end_scan(now, Duration(), true);
  EXPECT_LE(pace.affordable_at(), now);
  for (int i = 0; i < 20; ++i) pace.charge_checks(now, 500us);  // and as many wake-ups: 10.5 ms
  EXPECT_GT(pace.spare_at(false), now + 200ms);
  EXPECT_LE(pace.spare_at(false), now + 1s) << "the wait is limited to a second";
  EXPECT_EQ(pace.affordable_at(), now + ScanPace::kBatchInterval) << "hinted processes wait less";
  EXPECT_EQ(pace.spent(), 10500us);
  now = pace.spare_at(false);
  EXPECT_LE(pace.affordable_at(), now);
  pace.charge_checks(now, Duration());
  EXPECT_GT(pace.affordable_at(), now);
}

TEST_F(ScanPaceTest, DoesNotDelayChecksOfHintedProcessesByAScan) {
  pace.end_scan(now, 1s, true);
  EXPECT_LE(pace.affordable_at(), now);
}

TEST_F(ScanPaceTest, ReservesHalfOfTheCreditForHintedProcesses) {
  EXPECT_LE(pace.spare_at(true), now);
  pace.charge_checks(now, 6ms);
  EXPECT_LE(pace.affordable_at(), now);
  EXPECT_LE(pace.spare_at(false), now);
  EXPECT_GT(pace.spare_at(true), now + 400ms);
  EXPECT_LE(pace.spare_at(true), now + 600ms);
  now = pace.spare_at(true);
  pace.charge_checks(now, Duration());
  EXPECT_GT(pace.spare_at(true), now);
}

TEST_F(ScanPaceTest, DoesNotDelayTheScanByChecks) {
  pace.begin_scan();
  pace.end_scan(now, Duration(), true);
  pace.charge_checks(now, 1s);
  pace.request();
  EXPECT_EQ(pace.due(now), now + 100ms);
}

TEST_F(ScanPaceTest, ScansABurstAtTheExpeditedGap) {
  pace.end_scan(now, Duration(), true);
  pace.expedite(now);
  for (int i = 0; i < 10; ++i) {
    now = std::max(now, pace.due(now));
    pace.end_scan(now, 500us, false);
    pace.expedite(now);
  }
  EXPECT_EQ(pace.due(now), now + 20ms);
}

}  // namespace
}  // namespace portfwd
