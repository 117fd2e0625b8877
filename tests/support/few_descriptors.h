// A low descriptor limit for this process, and some descriptors in use, while the object lives.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <vector>

#include "base/unique_fd.h"

namespace portfwd::testing_support {

/// Sets a limit as the service manager does for the daemon.
class FewDescriptors {
 public:
  explicit FewDescriptors(int limit) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit few{static_cast<rlim_t>(limit), before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

  /// Opens or closes descriptors so that the next one has this number.
  void use_up_to(int number) {
    while (!taken_.empty() && taken_.back().get() >= number) taken_.pop_back();
    for (UniqueFd next = open_one(); next.valid() && next.get() < number; next = open_one()) {
      taken_.push_back(std::move(next));
    }
  }

 private:
  static UniqueFd open_one() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

  rlimit before_{};
  std::vector<UniqueFd> taken_;
};

}  // namespace portfwd::testing_support
