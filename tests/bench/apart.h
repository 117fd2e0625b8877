// A measurement in a process of its own, so that every run starts in the same state. Used by
// benchmarks that compare; what is measured is not known here.
#pragma once

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <type_traits>

#include "base/unique_fd.h"
#include "bench/figures.h"

namespace portfwd::bench {

/// @param measure called in the child, which dies with the caller
/// @return its result, or a default value when it did not finish
template <class Measure>
auto run_apart(const Measure& measure) -> decltype(measure()) {
  using Result = decltype(measure());
  static_assert(std::is_trivially_copyable_v<Result>, "it goes through a pipe");
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) give_up("pipe2 failed");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Result result = measure();
    ::_exit(::write(to.get(), &result, sizeof result) == sizeof result ? 0 : 1);
  }
  to.reset();
  Result result{};
  if (::read(from.get(), &result, sizeof result) != sizeof result) result = {};
  ::waitpid(pid, nullptr, 0);
  return result;
}

}  // namespace portfwd::bench
