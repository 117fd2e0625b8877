// The pool of pipes while the user's limit of pipe buffers is used up, by any program of that user:
// it lends none, rather than pipes of two pages. The test runs in a process of its own user, so
// that no other test lacks pipes.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "kernel/stream.h"

namespace portfwd {
namespace {

constexpr uid_t kUser = 61003;

enum class Outcome {
  AsPromised,
  StillAPrivilegedUser,
  ShareNeverUsedUp,
  LentASmallOne,
  NeverLentAgain
};

/// Uses up the limit, which the kernel counts for each user, as another program could.
bool use_up_the_share(std::vector<Pipe>& pipes) {
  for (int i = 0; i < 1024; ++i) {
    auto pipe = Pipe::make(PipePool::kLarge);
    if (!pipe) return false;
    if (pipe->capacity() < PipePool::kLeast) return true;
    pipes.push_back(std::move(*pipe));
  }
  return false;
}

Outcome with_the_share_used_up() {
  if (::setresuid(kUser, kUser, kUser) != 0) return Outcome::StillAPrivilegedUser;
  std::vector<Pipe> others;
  if (!use_up_the_share(others)) return Outcome::ShareNeverUsedUp;
  PipePool pool;
  if (pool.lease() || pool.leased() != 0) return Outcome::LentASmallOne;
  others.clear();
  for (std::size_t i = 0; i < PipePool::kLeasesUntilRetry; ++i) {
    if (pool.lease()) return Outcome::LentASmallOne;  // it must not retry yet
  }
  const PipePool::Lease lease = pool.lease();
  return lease && lease->capacity() == PipePool::kLarge ? Outcome::AsPromised
                                                        : Outcome::NeverLentAgain;
}

TEST(PipeShareTest, NoPipeIsLentWhileTheUsersShareIsUsedUp) {
  const pid_t pid = ::fork();
  ASSERT_GE(pid, 0);
  if (pid == 0) ::_exit(static_cast<int>(with_the_share_used_up()));
  int status = -1;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(static_cast<Outcome>(WEXITSTATUS(status)), Outcome::AsPromised);
}

}  // namespace
}  // namespace portfwd
