// The event loop: one thread and one level-triggered epoll, timers, signals. Owned by main.
//
// The lifetime rule: a source is pinned, is a *member* of the object that handles it, and is
// declared *below* its fd, so that it deregisters before the fd closes. Disarming a source also
// erases its events from the batch in progress. An object that has finished disarms its sources and
// is moved into `loop.retire()`, which frees it after the batch.
//
// The kernel has a key of each registration, not an address: the number of an entry of `entries_`
// and a count that differs for each use of this number. An event with a key that is not current is
// dropped. Therefore neither an event of the batch in progress nor a registration that outlives its
// source can reach a handler that was destroyed.
//
// It is level-triggered because a relay yields after a few rounds and must be called again.
#pragma once

#include <sys/epoll.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <set>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd {

/// One step of a turn of the loop, for the log.
struct LoopStep {
  enum class Kind : std::uint8_t { None, Io, Timer, Hook, Release };
  Kind kind = Kind::None;
  const std::type_info* handler = nullptr;  ///< for Io and Hook
  std::source_location owner{};             ///< for Timer
  Duration took{};
  /// The class of a handler, or of the owner of a timer.
  [[nodiscard]] std::string text() const;
};

// Logs turns of the loop that took long, since all other handlers wait for a turn to end. Owned by
// the loop. portfwd-relay, which has no log, is linked with an empty implementation.
class SlowTurns {
 public:
  static constexpr Duration kSlow = std::chrono::milliseconds(250);
  static constexpr Duration kLineInterval = std::chrono::seconds(10);

  /// Records the CPU time once a second. From it, a line shows whether the turn computed or waited
  /// for the kernel or a processor. Must be called in each turn, after the wait.
  void sample(TimePoint now);
  /// Writes a line, at most one in ten seconds; the next one says how many turns were left out.
  void report(TimePoint now, Duration took, const LoopStep& longest_step);

 private:
  TimePoint sampled_ = TimePoint::min();
  Duration cpu_{};  ///< CPU time of the thread at sampled_
  TimePoint last_line_ = TimePoint::min();
  unsigned left_out_ = 0;
};

class EventLoop;
class IoSource;
class Timer;

class IoHandler {
 public:
  /// @param source which of the handler's sources is ready
  /// @param events EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLPRI, EPOLLHUP, EPOLLERR
  virtual void on_io(IoSource& source, std::uint32_t events) = 0;

 protected:
  ~IoHandler() = default;
};

/// The registration of one fd. Borrows the fd, the loop and the handler, which must outlive it.
class IoSource {
 public:
  IoSource(EventLoop& loop, int fd, IoHandler& handler) noexcept
      : loop_(loop), handler_(handler), fd_(fd) {}
  IoSource(const IoSource&) = delete;
  IoSource& operator=(const IoSource&) = delete;
  ~IoSource() { disarm(); }

  /// Requests `events`; 0 deregisters, since HUP and ERR cannot be masked and would spin.
  /// Makes no system call if the mask does not change. Source: epoll_ctl(2).
  Result<void> watch(std::uint32_t events);
  void disarm() noexcept;
  /// Closes the descriptor of this source, which also disarms the source: the kernel deregisters a
  /// descriptor when it is closed, so no second system call is needed. Must not be used if another
  /// descriptor refers to the same open file: its events would continue to wake the loop.
  /// @param owner owner of this source's descriptor. Source: epoll(7), questions and answers.
  void close(UniqueFd& owner) noexcept;
  [[nodiscard]] std::uint32_t mask() const noexcept { return mask_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  friend class EventLoop;
  EventLoop& loop_;
  IoHandler& handler_;
  int fd_;  ///< borrowed; -1 after close()
  std::uint32_t mask_ = 0;
  std::uint32_t entry_ = 0;  ///< number in the loop's `entries_`, while mask_ is not 0
};

/// A one-shot timer. Pinned; borrows the loop. The callback may arm it again and may destroy other
/// timers, but not this one: move the owner into retire() instead. arm_now() makes it a task for
/// the next turn. Its destruction disarms it.
class Timer {
 public:
  using Callback = std::move_only_function<void()>;
  /// @param owner named in the log if the callback took long
  Timer(EventLoop& loop, Callback callback,
        std::source_location owner = std::source_location::current())
      : loop_(loop), callback_(std::move(callback)), owner_(owner) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { disarm(); }

  void arm_at(TimePoint when);
  void arm_after(Duration delay);
  void arm_now() { arm_after(Duration::zero()); }
  void disarm() noexcept;
  [[nodiscard]] bool armed() const noexcept { return armed_; }
  [[nodiscard]] TimePoint when() const noexcept { return when_; }

 private:
  friend class EventLoop;
  EventLoop& loop_;
  Callback callback_;
  std::source_location owner_;
  TimePoint when_{};
  bool armed_ = false;
};

/// Called before each wait, for example to drain the message queue of a library.
class WaitHook {
 public:
  virtual void before_wait() = 0;

 protected:
  ~WaitHook() = default;
};

/// An object that can be moved into retire().
class Retirable {
 public:
  virtual ~Retirable() = default;
};

class EventLoop {
 public:
  /// Must not be used if status() is an error.
  /// @param clock borrowed
  explicit EventLoop(const Clock& clock);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  /// The result of epoll_create1(2).
  [[nodiscard]] Result<void> status() const { return status_; }
  [[nodiscard]] const Clock& clock() const noexcept { return clock_; }
  [[nodiscard]] TimePoint now() const { return clock_.now(); }

  /// Runs until stop(). @return the error of the wait, after which the loop cannot continue
  Result<void> run();
  /// Waits for at most `limit` and handles one batch. For tests and for a shutdown that drains.
  Result<void> turn(Duration limit);
  void stop() noexcept { stopping_ = true; }

  /// Frees `object` after the batch in progress. Its sources must be disarmed; it may be null.
  void retire(std::unique_ptr<Retirable> object) {
    if (object != nullptr) retired_.push_back(std::move(object));
  }

  /// Returns memory of entries that are free to the allocator: those behind the last entry in use.
  /// For use after most of many sources were disarmed.
  void release_memory();

  void add_hook(WaitHook& hook) {
    assert(std::ranges::find(hooks_, &hook) == hooks_.end());
    hooks_.push_back(&hook);
  }
  void remove_hook(WaitHook& hook) noexcept { std::erase(hooks_, &hook); }

  /// The longest time from the end of one wait to the beginning of the next, hooks included.
  [[nodiscard]] Duration longest_turn() const noexcept { return longest_turn_.took; }
  /// The number of turns, the one in progress included.
  [[nodiscard]] std::uint64_t turns() const noexcept { return turns_; }
  /// When a source was last ready; TimePoint::min() before the first time.
  [[nodiscard]] TimePoint last_io() const noexcept { return last_io_; }
  /// Whether the wait returned as many events as fit in a batch, so that more sources may be ready.
  [[nodiscard]] bool is_saturated() const noexcept { return saturated_; }
  /// The longest step of the longest turn: the class of a handler, or of the owner of a timer.
  [[nodiscard]] std::string longest_turn_in() const { return longest_turn_.longest_step.text(); }

 private:
  friend class IoSource;
  friend class Timer;
  struct Turn {
    Duration took{};
    LoopStep longest_step;
  };
  /// One registration with the kernel.
  struct Entry {
    IoSource* source = nullptr;   ///< null: free
    std::uint32_t uses = 0;       ///< differs for each use of this number
    std::uint32_t next_free = 0;  ///< if this one is free: the next free one, see first_free_
  };

  [[nodiscard]] std::uint32_t add_entry(IoSource& source);
  void free_entry(std::uint32_t number) noexcept;
  [[nodiscard]] std::uint64_t key_of(std::uint32_t number) const;
  [[nodiscard]] IoSource* source_of(std::uint64_t key) const;

  void dispatch(std::span<const epoll_event> batch);
  void expire_timers();
  void run_hooks();
  /// Ends a step, which began at the end of the previous one.
  void end_step(LoopStep step);
  void end_turn(TimePoint now);
  [[nodiscard]] Duration wait_limit(TimePoint now, Duration limit) const;
  [[nodiscard]] int wait(std::span<epoll_event> events, Duration limit);

  const Clock& clock_;
  UniqueFd epoll_;
  Result<void> status_;
  std::vector<Entry> entries_;
  std::uint32_t first_free_ = 0;  ///< entries_.size() if none is free
  std::uint32_t least_uses_ = 0;  ///< `uses` of a new entry
  std::uint64_t turns_ = 0;
  std::set<std::pair<TimePoint, Timer*>> timers_;
  std::vector<std::unique_ptr<Retirable>> retired_;
  std::vector<WaitHook*> hooks_;
  TimePoint expiring_ = TimePoint::min();
  TimePoint wait_ended_ = TimePoint::min();  ///< end of the last wait; min(): none yet
  TimePoint last_io_ = TimePoint::min();
  TimePoint step_ended_{};  ///< the end of the last step
  LoopStep longest_step_;   ///< of this turn
  Turn longest_turn_;
  SlowTurns slow_turns_;
  bool stopping_ = false;
  bool dispatching_ = false;
  bool saturated_ = false;
  bool has_pwait2_ = true;  ///< assumed until a call fails with ENOSYS
};

// Signals as events of the loop, through a signalfd. Owned by main. The signals stay blocked for
// the thread; a child process must unblock them for itself.
class Signals final : private IoHandler {
 public:
  using Callback = std::move_only_function<void(int signal)>;
  /// Blocks `signals`. @param callback called from the loop for each signal that arrives
  Signals(EventLoop& loop, std::initializer_list<int> signals, Callback callback);

  /// The error of signalfd(2) or epoll_ctl(2), if any; then no signal is reported.
  [[nodiscard]] Result<void> status() const { return status_; }

 private:
  void on_io(IoSource& source, std::uint32_t events) override;

  Callback callback_;
  UniqueFd fd_;
  IoSource source_;
  Result<void> status_;
};

}  // namespace portfwd
