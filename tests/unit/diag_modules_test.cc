// State of the kernel's diag modules, with a simulated clock and kernel.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "kernel/sock_diag.h"
#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing_support::ManualClock;

struct DiagModulesTest : testing::Test {
  DiagModulesTest() { log::set_level(log::Level::Error); }
  ~DiagModulesTest() override { log::set_level(log::Level::Info); }

  Result<void> probe(Protocol protocol) {
    ++questions;
    if (!has[static_cast<std::size_t>(protocol)]) return fail("sock_diag dump", ENOENT);
    return {};
  }
  DiagModules& start() {
    modules.emplace(loop, [this](Protocol protocol) { return probe(protocol); });
    modules->set_observer([this] { ++changes; });
    questions = 0;
    return *modules;
  }
  void pass(Duration time) {
    clock.advance(time);
    ASSERT_TRUE(loop.turn(Duration::zero()));
  }

  ManualClock clock;
  EventLoop loop{clock};
  std::array<bool, 3> has{true, true, true};  ///< by protocol
  int questions = 0;
  int changes = 0;
  std::optional<DiagModules> modules;
};

TEST_F(DiagModulesTest, StopsProbingWhenAllModulesAreAvailable) {
  const DiagModules& all = start();
  EXPECT_TRUE(all.of(Protocol::Tcp));
  EXPECT_TRUE(all.of(Protocol::Udp));
  EXPECT_TRUE(all.of(Protocol::Unix));
  EXPECT_EQ(all.trouble(Protocol::Tcp), "");
  pass(DiagModules::kPause);
  EXPECT_EQ(questions, 0);
}

TEST_F(DiagModulesTest, NamesTheMissingModule) {
  has = {true, false, false};
  const DiagModules& tcp_alone = start();
  EXPECT_TRUE(tcp_alone.of(Protocol::Tcp));
  EXPECT_EQ(tcp_alone.of(Protocol::Udp).error().code, ENOENT);
  EXPECT_EQ(tcp_alone.trouble(Protocol::Tcp), "");
  EXPECT_THAT(tcp_alone.trouble(Protocol::Udp), HasSubstr("modprobe udp_diag"));
  EXPECT_THAT(tcp_alone.trouble(Protocol::Unix), HasSubstr("modprobe unix_diag"));
}

TEST_F(DiagModulesTest, ProbesAgainEachPauseWhileAModuleIsMissingAndNotifies) {
  has = {false, false, false};
  const DiagModules& none = start();
  pass(DiagModules::kPause - 1ms);
  EXPECT_EQ(questions, 0);
  pass(1ms);
  EXPECT_EQ(questions, 3);
  EXPECT_EQ(changes, 0);
  has = {true, false, true};
  EXPECT_FALSE(none.of(Protocol::Tcp)) << "not before the next poll";
  pass(DiagModules::kPause);
  EXPECT_TRUE(none.of(Protocol::Tcp));
  EXPECT_FALSE(none.of(Protocol::Udp));
  EXPECT_EQ(changes, 1);
  has = {true, true, true};
  pass(DiagModules::kPause);
  EXPECT_TRUE(none.of(Protocol::Udp));
  EXPECT_EQ(changes, 2);
  questions = 0;
  pass(DiagModules::kPause);
  EXPECT_EQ(questions, 0) << "must not poll if none is missing";
}

}  // namespace
}  // namespace portfwd
