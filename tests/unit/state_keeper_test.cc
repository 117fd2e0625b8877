// When the state is written, and that nobody waits for a disk that does not answer.
#include "forward/state_keeper.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "build_paths.h"
#include "support/manual_clock.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

struct StateKeeperTest : testing::Test {
  /// In the place of a writer whose disk does not answer.
  [[nodiscard]] std::string silent_program() const {
    const std::string path = folder.path() + "/silent";
    std::ofstream(path) << "#!/bin/sh\nexec sleep 1000\n";
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path;
  }
  void use(const std::string& program) {
    writer.emplace(loop, program);
    keeper.emplace(loop, file, *writer, [this] {
      ++read;
      return State{.ports = {{"web", {Protocol::Tcp, 80}, port}}};
    });
  }
  void pass(Duration time) {
    clock.advance(time);
    EXPECT_TRUE(loop.turn(0ms));
  }
  void turn_until_written() {
    while (writer->busy()) ASSERT_TRUE(loop.turn(10s));
  }
  [[nodiscard]] Port saved() const {
    const State state = file.load();
    return state.ports.empty() ? Port{0} : state.ports[0].host_port;
  }

  testing_support::TempDir folder;
  testing_support::ManualClock clock;
  EventLoop loop{clock};
  StateFile file{folder.path() + "/state"};
  Port port = 1;
  int read = 0;
  std::optional<FileWriter> writer;
  std::optional<StateKeeper> keeper;
};

TEST_F(StateKeeperTest, WritesOnceForAllThatChangedWithinASecond) {
  use(PORTFWD_BROKER_PATH);
  for (port = 1; port < 5; ++port) keeper->changed();
  pass(StateKeeper::kDelay);
  turn_until_written();
  EXPECT_EQ(read, 1);
  EXPECT_EQ(saved(), 5);
}

TEST_F(StateKeeperTest, WritesAgainWhatChangedWhileItWrote) {
  use(PORTFWD_BROKER_PATH);
  keeper->changed();
  pass(StateKeeper::kDelay);
  ASSERT_TRUE(writer->busy());
  port = 2;
  keeper->changed();
  turn_until_written();
  pass(StateKeeper::kDelay);
  turn_until_written();
  EXPECT_EQ(saved(), 2);
}

TEST_F(StateKeeperTest, HasTheLastStateOnTheDiskWhenItHasFinished) {
  use(PORTFWD_BROKER_PATH);
  keeper->changed();
  pass(StateKeeper::kDelay);
  ASSERT_TRUE(writer->busy());
  port = 2;
  keeper->changed();
  keeper->finish();
  port = 3;  // what is given up at the end
  keeper->changed();
  while (keeper->finishing()) ASSERT_TRUE(loop.turn(10s));
  EXPECT_EQ(saved(), 2);
  EXPECT_FALSE(writer->busy());
}

TEST_F(StateKeeperTest, HasFinishedAtOnceWhenNothingHasChanged) {
  use(silent_program());
  keeper->finish();
  EXPECT_FALSE(keeper->finishing());
}

TEST_F(StateKeeperTest, FinishesThoughTheDiskDoesNotAnswer) {
  use(silent_program());
  keeper->changed();
  pass(StateKeeper::kDelay);
  ASSERT_TRUE(writer->busy());
  keeper->changed();
  keeper->finish();
  EXPECT_TRUE(keeper->finishing());
  pass(StateKeeper::kLongestEnd);
  EXPECT_FALSE(keeper->finishing());
}

TEST_F(StateKeeperTest, GivesUpAWriterThatDoesNotAnswer) {
  use(silent_program());
  keeper->changed();
  pass(StateKeeper::kDelay);
  ASSERT_TRUE(writer->busy());
  pass(FileWriter::kPatience);
  EXPECT_FALSE(writer->busy());
}

}  // namespace
}  // namespace portfwd
