// Figures of the process: its open descriptors.
#include "base/process_usage.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/unique_fd.h"

namespace portfwd {
namespace {

TEST(ProcessUsage, CountsDescriptors) {
  const auto before = process_usage().open_fds;
  ASSERT_TRUE(before);
  std::vector<UniqueFd> more;
  for (int i = 0; i < 100; ++i) more.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(process_usage().open_fds, *before + 100);
}

}  // namespace
}  // namespace portfwd
