// ProcessTable: the namespace of each process, and the number of checks. On an imitation of /proc.
#include "discover/process_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "build_paths.h"
#include "support/fake_proc.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

struct ProcessTableTest : testing::Test {
  using Known = ProcessTable::Known;
  void refresh(Known whom = Known::Recent) {
    ASSERT_TRUE(table.refresh(now, whom));
    ASSERT_TRUE(table.continue_checks([] { return false; }));
  }
  std::uint64_t netns(pid_t pid) { return table.find(pid) == nullptr ? 0 : table.find(pid)->netns; }

  testing_support::FakeProc fake;
  ProcDir proc{fake.path()};
  SystemClock clock;
  EventLoop loop{clock};
  Reader reader{loop, {.program = PORTFWD_BROKER_PATH, .folder = fake.path()}};
  ProcessFactsCache facts{reader, proc};
  Identifier identifier{proc, facts};
  Boundary boundary{proc, identifier};
  ProcessTable table{proc, identifier, boundary, [](pid_t pid) { return pid == 999; }};
  TimePoint now{100s};
};

TEST_F(ProcessTableTest, ChecksANewProcessOnce) {
  fake.start(5, 11);
  fake.start(40, 12);
  refresh();
  EXPECT_THAT(table.checked_pids(), ElementsAre(5, 40));
  EXPECT_EQ(netns(5), 11U);
  refresh();
  EXPECT_THAT(table.checked_pids(), IsEmpty());
}

TEST_F(ProcessTableTest, ChecksARecentProcessAgain) {
  fake.start(5, 11);
  refresh();
  fake.move(5, 12);
  now = table.recent_due();
  table.mark_due(now);
  ASSERT_TRUE(table.continue_checks([] { return false; }));
  EXPECT_EQ(netns(5), 12U);
}

TEST_F(ProcessTableTest, ChecksAnOldProcessInAFullScanOnly) {
  fake.start(5, 11);
  refresh();
  now += 10s;
  refresh();  // its last check as a recent process, late
  EXPECT_EQ(table.recent_due(), TimePoint::max());
  fake.move(5, 12);
  refresh();
  EXPECT_THAT(table.checked_pids(), IsEmpty());
  refresh(Known::All);
  EXPECT_EQ(netns(5), 12U);
}

TEST_F(ProcessTableTest, ChecksAReusedPid) {
  fake.start(5, 11);
  refresh();
  now += 10s;
  refresh();
  fake.replace(5, 13);
  refresh();
  EXPECT_THAT(table.checked_pids(), ElementsAre(5));
  EXPECT_EQ(netns(5), 13U);
  EXPECT_TRUE(ProcessTable::is_recent(*table.find(5), now));
}

TEST_F(ProcessTableTest, RemovesProcessesThatHaveExited) {
  fake.start(5, 11);
  fake.start(6, 11);
  fake.start(7, 11);
  refresh();
  fake.end(6);
  refresh();
  EXPECT_EQ(table.all().size(), 2U);
  EXPECT_EQ(table.find(6), nullptr);
}

TEST_F(ProcessTableTest, AddsAHintedProcessBeforeItIsListed) {
  fake.start(5, 11);
  refresh();
  fake.start(6, 12);
  ASSERT_NE(table.check_now(6, now), nullptr);
  EXPECT_EQ(netns(6), 12U);
  refresh();
  EXPECT_THAT(table.checked_pids(), IsEmpty());
  EXPECT_EQ(table.check_now(7, now), nullptr) << "it has exited";
}

TEST_F(ProcessTableTest, AssignsNoNamespaceToTheDaemonsProcesses) {
  fake.start(999, 11);
  refresh();
  EXPECT_EQ(netns(999), 0U);
}

TEST_F(ProcessTableTest, ChecksManyProcessesOverSeveralCalls) {
  constexpr int kMany = 100;
  for (int i = 1; i <= kMany; ++i) fake.start(i, 11);
  ASSERT_TRUE(table.refresh(now, Known::Recent));
  std::size_t looks = 0;
  int calls = 1;
  for (; !table.continue_checks([] { return true; }); ++calls) {
    EXPECT_EQ(table.recent_due(), TimePoint::min());
    looks += table.checked_pids().size();
    ASSERT_TRUE(table.refresh(now, Known::Recent)) << "must not drop the unchecked ones";
    ASSERT_LT(calls, kMany);
  }
  EXPECT_GT(calls, 2);
  EXPECT_EQ(looks + table.checked_pids().size(), std::size_t{kMany});
  EXPECT_EQ(netns(kMany), 11U);
}

TEST_F(ProcessTableTest, FailsWithoutProcButNotIfItIsEmpty) {
  refresh();
  EXPECT_THAT(table.all(), IsEmpty());
  const ProcDir nowhere("/nowhere/proc");
  ProcessTable blind(nowhere, identifier, boundary, [](pid_t) { return false; });
  EXPECT_EQ(blind.refresh(now, ProcessTable::Known::All).error().code, EBADF);
}

}  // namespace
}  // namespace portfwd
