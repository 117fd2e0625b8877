// Inotify with real folders.
#include "kernel/inotify.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "support/few_descriptors.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::FewDescriptors;
using testing_support::TempDir;

struct InotifyTest : testing::Test {
  struct Received {
    int watch;
    std::uint32_t mask;
    std::string name;
  };
  /// Turns the loop until `count` events were received, at most 20 s.
  void receive(std::size_t count) {
    const TimePoint deadline = loop.now() + 20s;
    while (received.size() < count && loop.now() < deadline) ASSERT_TRUE(loop.turn(20ms));
    ASSERT_EQ(received.size(), count);
  }
  void make_file(const std::string& name) const { std::ofstream(folder.path() + "/" + name); }

  TempDir folder;
  SystemClock clock;
  EventLoop loop{clock};
  std::vector<Received> received;
  Inotify inotify{loop, [this](std::span<const Inotify::Event> events) {
                    EXPECT_FALSE(events.empty());
                    for (const Inotify::Event& event : events) {
                      received.push_back({event.watch, event.mask, std::string(event.name)});
                    }
                  }};
};

TEST_F(InotifyTest, ReportsNamesOfEveryLengthWithTheirWatch) {
  const auto watch = inotify.add(folder.path(), IN_CREATE);
  ASSERT_TRUE(watch);
  const std::vector<std::string> names{"a", std::string(15, 'b'), std::string(16, 'c'),
                                       std::string(255, 'd')};
  for (const std::string& name : names) make_file(name);
  receive(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(received[i].name, names[i]);
    EXPECT_EQ(received[i].watch, *watch);
    EXPECT_EQ(received[i].mask, IN_CREATE);
  }
}

/// More events than one read returns.
TEST_F(InotifyTest, ReportsAllOfManyEvents) {
  constexpr std::size_t kMany = 1000;
  ASSERT_TRUE(inotify.add(folder.path(), IN_CREATE));
  for (std::size_t i = 0; i < kMany; ++i) make_file("file" + std::to_string(i));
  receive(kMany);
  EXPECT_EQ(received.front().name, "file0");
  EXPECT_EQ(received.back().name, "file" + std::to_string(kMany - 1));
}

TEST_F(InotifyTest, ReportsAnEventOfTheWatchedPathWithoutAName) {
  make_file("file");
  ASSERT_TRUE(inotify.add(folder.path() + "/file", IN_DELETE_SELF));
  std::filesystem::remove(folder.path() + "/file");
  receive(2);
  EXPECT_EQ(received[0].mask, IN_DELETE_SELF);
  EXPECT_EQ(received[0].name, "");
  EXPECT_EQ(received[1].mask, IN_IGNORED);
}

TEST_F(InotifyTest, ReportsNothingOfARemovedWatch) {
  const auto watch = inotify.add(folder.path(), IN_CREATE);
  ASSERT_TRUE(watch);
  inotify.remove(*watch);
  receive(1);  // IN_IGNORED
  inotify.remove(*watch);
  make_file("file");
  ASSERT_TRUE(inotify.add(folder.path(), IN_CREATE));
  make_file("other");
  receive(2);
  EXPECT_EQ(received[1].name, "other");
}

TEST_F(InotifyTest, FailsForAPathThatDoesNotExist) {
  const auto watch = inotify.add(folder.path() + "/missing", IN_CREATE);
  ASSERT_FALSE(watch);
  EXPECT_EQ(watch.error().code, ENOENT);
  EXPECT_EQ(watch.error().op, "inotify_add_watch");
}

TEST(InotifyLimitTest, SaysWhyItHasNoDescriptor) {
  SystemClock clock;
  EventLoop loop(clock);
  const TempDir folder;
  FewDescriptors few(64);
  few.use_up_to(64);
  Inotify inotify(loop, [](std::span<const Inotify::Event>) { ADD_FAILURE(); });
  const auto watch = inotify.add(folder.path(), IN_CREATE);
  ASSERT_FALSE(watch);
  EXPECT_EQ(watch.error().code, EMFILE);
  EXPECT_EQ(watch.error().op, "inotify_init1");
}

}  // namespace
}  // namespace portfwd
