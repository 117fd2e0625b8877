// Log output when its reader does not read.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>

#include "base/log.h"
#include "base/unique_fd.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct LogQueueTest : testing::Test {
  std::vector<std::string> sent;
  std::size_t room = 0;
  log::LineQueue queue{[this](std::string_view line) {
                         if (sent.size() == room) return false;
                         sent.emplace_back(line);
                         return true;
                       },
                       [](std::uint64_t count) { return "lost " + std::to_string(count); }};
};

TEST_F(LogQueueTest, KeepsLinesInOrderUntilThereIsRoom) {
  room = 1;
  for (const char* line : {"a", "b", "c"}) queue.put(line);
  EXPECT_THAT(sent, ElementsAre("a"));
  EXPECT_FALSE(queue.flush());
  room = 9;
  queue.put("d");
  EXPECT_THAT(sent, ElementsAre("a", "b", "c", "d"));
  EXPECT_TRUE(queue.flush());
}

TEST_F(LogQueueTest, CountsWhatIsLeftOut) {
  const std::string big(log::LineQueue::kMostBytes, 'x');
  queue.put(big);
  for (const char* line : {"b", "c"}) queue.put(line);
  EXPECT_THAT(sent, IsEmpty());
  room = 9;
  EXPECT_TRUE(queue.flush());
  EXPECT_THAT(sent, ElementsAre(big, "lost 2"));
  queue.put("d");
  EXPECT_EQ(sent.back(), "d");
}

/// Replaces stderr by `fd` for its lifetime.
struct FullStderr {
  explicit FullStderr(int fd) { ::dup2(fd, STDERR_FILENO); }
  FullStderr(const FullStderr&) = delete;
  FullStderr& operator=(const FullStderr&) = delete;
  ~FullStderr() { ::dup2(before.get(), STDERR_FILENO); }
  UniqueFd before{::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)};
};

TEST(LogTest, DoesNotWaitForAReaderOfItsPipe) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]), write_end(ends[1]);
  ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
  std::string text;
  {
    const FullStderr full(write_end.get());
    for (int i = 0; i < 3000; ++i) log::error("line {} {}", i, std::string(50, 'x'));
    EXPECT_FALSE(log::flush());
    EXPECT_EQ(::fcntl(write_end.get(), F_GETFL) & O_NONBLOCK, 0) << "others share it";
    std::array<char, 4096> buffer{};
    for (bool done = false; !done;) {
      done = log::flush();
      for (ssize_t n = 0; (n = ::read(read_end.get(), buffer.data(), buffer.size())) > 0;) {
        text.append(buffer.data(), static_cast<std::size_t>(n));
      }
    }
  }
  for (std::size_t i = 0, at = 0; i < 3000; ++i) {
    at = text.find("line " + std::to_string(i) + " ", at);
    ASSERT_NE(at, text.npos) << i;
  }
}

}  // namespace
}  // namespace portfwd
