// StateKeeper: when the state is written; a disk that hangs does not block the daemon.
#include "state/state_keeper.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "build_paths.h"
#include "support/manual_clock.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

struct StateKeeperTest : testing::Test {
  /// A program that hangs, like a writer whose disk hangs.
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
      return state();
    });
  }
  [[nodiscard]] State state() const { return {.ports = {{"web", {Protocol::Tcp, 80}, port}}}; }
  void pass(Duration time) {
    clock.advance(time);
    EXPECT_TRUE(loop.turn(0ms));
  }
  void turn_until_written() {
    while (writer->busy()) ASSERT_TRUE(loop.turn(10s));
  }
  [[nodiscard]] Port saved() const {
    const State state = file.load().value();
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

TEST_F(StateKeeperTest, WritesSoonAndThenOnceForAllThatChangedWithinASecond) {
  use(PORTFWD_BROKER_PATH);
  keeper->changed();
  pass(StateKeeper::kSoon);
  turn_until_written();
  EXPECT_EQ(read, 1);
  for (port = 2; port < 5; ++port) {
    keeper->changed();
    pass(StateKeeper::kDelay / 4);
  }
  EXPECT_EQ(read, 1);
  pass(StateKeeper::kDelay / 4);
  turn_until_written();
  EXPECT_EQ(read, 2);
  EXPECT_EQ(saved(), 5);
  pass(StateKeeper::kDelay);
  keeper->changed();  // the first one after a pause
  pass(StateKeeper::kSoon);
  EXPECT_EQ(read, 3);
}

TEST_F(StateKeeperTest, WritesOnceForAllThatChangesTogether) {
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
  keeper->finish(state());
  port = 3;  // a change after finish() is not saved
  keeper->changed();
  while (keeper->finishing()) ASSERT_TRUE(loop.turn(10s));
  EXPECT_EQ(saved(), 2);
  EXPECT_FALSE(writer->busy());
}

/// systemd sends SIGTERM to all processes of the unit at the same time.
TEST_F(StateKeeperTest, HasTheLastStateOnTheDiskThoughItsWriterIsAskedToEnd) {
  use(PORTFWD_BROKER_PATH);
  keeper->changed();
  keeper->finish(state());
  ASSERT_TRUE(writer->busy());
  std::ifstream children(fmt::format("/proc/self/task/{}/children", ::gettid()));
  int asked = 0;
  for (pid_t child = 0; children >> child; ++asked) EXPECT_EQ(::kill(child, SIGTERM), 0);
  EXPECT_GE(asked, 1);
  while (keeper->finishing()) ASSERT_TRUE(loop.turn(10s));
  EXPECT_EQ(saved(), 1);
}

TEST_F(StateKeeperTest, HasFinishedAtOnceWhenNothingHasChanged) {
  use(silent_program());
  keeper->finish(state());
  EXPECT_FALSE(keeper->finishing());
}

TEST_F(StateKeeperTest, FinishesThoughTheDiskDoesNotAnswer) {
  use(silent_program());
  keeper->changed();
  pass(StateKeeper::kDelay);
  ASSERT_TRUE(writer->busy());
  keeper->changed();
  keeper->finish(state());
  EXPECT_TRUE(keeper->finishing());
  pass(StateKeeper::kLongestEnd);
  EXPECT_FALSE(keeper->finishing());
}

TEST_F(StateKeeperTest, GivesUpAWriterThatDoesNotAnswer) {
  use(silent_program());
  keeper->changed();
  pass(StateKeeper::kDelay);
  ASSERT_TRUE(writer->busy());
  pass(FileWriter::kWriteTimeout);
  EXPECT_FALSE(writer->busy());
}

TEST_F(StateKeeperTest, NeverWritesOverWhatCannotBeRead) {
  use(PORTFWD_BROKER_PATH);
  std::filesystem::create_directories(file.path().parent_path());
  const std::string newer = R"({"version":2})";
  std::ofstream(file.path()) << newer;
  EXPECT_EQ(keeper->load(), State{});
  EXPECT_THAT(keeper->problem(), testing::HasSubstr("newer"));
  keeper->changed();
  pass(StateKeeper::kDelay);
  EXPECT_FALSE(writer->busy());
  keeper->retry();
  EXPECT_FALSE(writer->busy());
  keeper->finish(state());
  EXPECT_FALSE(keeper->finishing());
  std::string text;
  std::getline(std::ifstream(file.path()), text);
  EXPECT_EQ(text, newer);
}

/// A file exists in place of the folder, so that not even root can write there.
struct StateKeeperWithoutFolder : StateKeeperTest {
  StateKeeperWithoutFolder() {
    std::ofstream(file.path().parent_path()) << "in the way";
    use(PORTFWD_BROKER_PATH);
    testing::internal::CaptureStderr();
    keeper->changed();
    pass(StateKeeper::kDelay);
    turn_until_written();
  }
  /// Removes the obstacle. @return the log so far
  std::string mend() {
    std::filesystem::remove(file.path().parent_path());
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(StateKeeperWithoutFolder, WritesByItselfOnceItCan) {
  EXPECT_THAT(keeper->problem(), testing::HasSubstr("Not a directory"));
  Duration pause = StateKeeper::kFirstRetry;
  for (int failed = 0; failed < 8; ++failed) {
    pass(pause - 1ms);
    EXPECT_FALSE(writer->busy()) << failed;
    keeper->changed();  // does not shorten the pause
    pass(1ms);
    EXPECT_TRUE(writer->busy()) << failed;
    turn_until_written();
    pause = std::min(pause * 2, StateKeeper::kLongestRetry);
  }
  EXPECT_EQ(pause, StateKeeper::kLongestRetry);
  const std::string said = mend();
  EXPECT_NE(said.find("cannot write"), said.npos) << said;
  EXPECT_EQ(said.find("cannot write"), said.rfind("cannot write")) << said;
  port = 7;
  testing::internal::CaptureStderr();
  pass(pause);
  turn_until_written();
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("written again"));
  EXPECT_EQ(saved(), 7);
  EXPECT_EQ(keeper->problem(), "");
  pass(StateKeeper::kLongestRetry);
  EXPECT_FALSE(writer->busy());
}

TEST_F(StateKeeperWithoutFolder, WritesAtOnceOnRetry) {
  mend();
  keeper->retry();
  ASSERT_TRUE(writer->busy());
  turn_until_written();
  EXPECT_EQ(saved(), 1);
  EXPECT_EQ(keeper->problem(), "");
}

TEST_F(StateKeeperWithoutFolder, WritesAtTheEndWhatHasFailed) {
  mend();
  keeper->finish(state());
  while (keeper->finishing()) ASSERT_TRUE(loop.turn(10s));
  EXPECT_EQ(saved(), 1);
}

}  // namespace
}  // namespace portfwd
