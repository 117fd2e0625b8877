// A process that repeats one action at a fixed rate and records the duration of each, while the
// test runs. The records are in shared memory, so that an action that never ends can be read as
// well.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <ctime>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace portfwd::testing_support {

/// Durations of the rounds in one window.
struct Latencies {
  std::vector<double> ms;
  int lost = 0;  ///< rounds that failed or had no answer

  [[nodiscard]] double quantile(double q) const {
    if (ms.empty()) return 0;
    std::vector<double> sorted = ms;
    std::ranges::sort(sorted);
    return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1))];
  }
  [[nodiscard]] double median() const { return quantile(0.5); }
  [[nodiscard]] double p99() const { return quantile(0.99); }
  [[nodiscard]] double worst() const { return quantile(1); }
};

class Probe {
 public:
  /// One round; runs in the probe's process.
  /// @return whether it was answered
  using Round = std::function<bool()>;

  /// @param make_round called in the probe's process; opens what the rounds use
  Probe(std::string name, std::chrono::microseconds interval,
        const std::function<Round()>& make_round)
      : name_(std::move(name)), interval_(interval) {
    void* memory =
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      ADD_FAILURE() << "mmap: " << errno;
      return;
    }
    shared_ = new (memory) Shared;
    pid_ = ::fork();
    if (pid_ == 0) run(make_round);
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;
  ~Probe() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
  }

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] int rounds() const { return shared_->rounds; }

  /// Begins a window: earlier rounds are not counted.
  void begin_window() { from_ = shared_->rounds; }
  /// The rounds of the window. A round that has not ended counts with its time so far. A probe that
  /// waits makes fewer rounds meanwhile, so a stall of a second is one sample; hence there is a
  /// bound for the worst sample as well.
  [[nodiscard]] Latencies window() const {
    Latencies out;
    const int last = std::min<int>(shared_->rounds, kMost);
    for (int i = from_; i < last; ++i) {
      const double took = shared_->took[static_cast<std::size_t>(i)];
      if (took < 0) ++out.lost;
      out.ms.push_back(std::abs(took));
    }
    if (const std::int64_t began = shared_->began; began != 0) {
      out.ms.push_back(static_cast<double>(now() - began) / 1e6);
    }
    return out;
  }

 private:
  static constexpr int kMost = 200'000;
  struct Shared {
    std::atomic<int> rounds = 0;
    std::atomic<std::int64_t> began = 0;  ///< start of the current round; 0 between rounds
    std::array<double, kMost> took{};     ///< milliseconds; negative: failed
  };

  static std::int64_t now() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1'000'000'000 + t.tv_nsec;
  }

  [[noreturn]] void run(const std::function<Round()>& make_round) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Round round = make_round();
    const int ticks = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    const timespec step{0, static_cast<long>(interval_.count()) * 1000};
    const itimerspec each{step, step};
    ::timerfd_settime(ticks, 0, &each, nullptr);
    for (;;) {
      const int at = shared_->rounds;
      if (at == kMost) ::_exit(0);
      const std::int64_t began = now();
      shared_->began = began;
      const bool answered = round();
      const double took = static_cast<double>(now() - began) / 1e6;
      shared_->took[static_cast<std::size_t>(at)] = answered ? took : -took;
      shared_->rounds = at + 1;
      shared_->began = 0;
      std::uint64_t passed = 0;
      (void)!::read(ticks, &passed, sizeof passed);
    }
  }

  std::string name_;
  std::chrono::microseconds interval_;
  Shared* shared_ = nullptr;
  int from_ = 0;
  pid_t pid_ = -1;
};

}  // namespace portfwd::testing_support
