// One thread, one level-triggered epoll, and the lifetime rule of everything that hangs on it:
// a source is pinned, is a *member* of the object that handles it, and is declared *below* its fd,
// so it deregisters before the fd closes. Disarming a source also erases its events from the batch
// in progress. An object that is done disarms its sources and is moved into `loop.retire()`, which
// frees it after the batch. It knows nothing of what its sources carry.
//
// The kernel is given a key, not an address: the number of an entry of `entries_` and how often the
// entry was in use before. An event whose key is not current is dropped, so neither an event of the
// batch in progress nor a registration that outlives its source can reach a handler that is gone.
//
// Level-triggered, because a relay yields after a few rounds and must be called again.
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

// Logs turns of the loop that took long: everybody else had to wait so long. Owned by the loop.
class SlowTurns {
 public:
  static constexpr Duration kSlow = std::chrono::milliseconds(250);
  static constexpr Duration kBetweenLines = std::chrono::seconds(10);

  /// Notes the CPU time once a second, so that a line can say whether the turn computed or waited,
  /// for the kernel or for a processor. Called before each turn.
  void sample(TimePoint now);
  /// Writes a line, at most one in ten seconds; the next one says how many turns were left out.
  /// @param mostly what took longest of the turn @param mostly_took so long
  void report(TimePoint now, Duration took, std::string_view mostly, Duration mostly_took);

 private:
  TimePoint sampled_ = TimePoint::min();
  Duration cpu_{};  ///< at that time
  TimePoint told_ = TimePoint::min();
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

/// One fd's registration. Borrows the fd, the loop and the handler; all outlive it.
class IoSource {
 public:
  IoSource(EventLoop& loop, int fd, IoHandler& handler) noexcept
      : loop_(loop), handler_(handler), fd_(fd) {}
  IoSource(const IoSource&) = delete;
  IoSource& operator=(const IoSource&) = delete;
  ~IoSource() { disarm(); }

  /// Asks for `events`; 0 deregisters, since HUP and ERR cannot be masked and would spin.
  /// Costs no system call when the mask is what it was. Source: epoll_ctl(2).
  Result<void> watch(std::uint32_t events);
  void disarm() noexcept;
  /// Closes the descriptor of this source, and disarms the source by that: the kernel deregisters
  /// a descriptor that is closed, so it costs no call of its own. Must not be used where another
  /// descriptor refers to the same open file: its events would go on to wake the loop.
  /// @param owner holds the descriptor of this source. Source: epoll(7), questions and answers.
  void close(UniqueFd& owner) noexcept;
  [[nodiscard]] std::uint32_t mask() const noexcept { return mask_; }
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  friend class EventLoop;
  EventLoop& loop_;
  IoHandler& handler_;
  int fd_;  ///< the owner's, which outlives the registration; -1 after close()
  std::uint32_t mask_ = 0;
  std::uint32_t entry_ = 0;  ///< in the loop's table, while mask_ is not 0
};

/// A one-shot deadline. Pinned; borrows the loop. The callback may arm it again, and may destroy
/// any other timer, but not its own: move the owner into retire() instead. Armed for now it is a
/// task for the next turn, and cancelled by its owner's death like any other.
class Timer {
 public:
  using Callback = std::move_only_function<void()>;
  /// @param owner for the log, when the callback took long
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

/// Called before each wait, such as to drain a library that holds messages in its own queue.
class WaitHook {
 public:
  virtual void before_wait() = 0;

 protected:
  ~WaitHook() = default;
};

/// What may be moved into retire().
class Retirable {
 public:
  virtual ~Retirable() = default;
};

class EventLoop {
 public:
  /// Throws nothing; `status()` tells whether the kernel gave an epoll fd. Without one it must not
  /// be used.
  explicit EventLoop(const Clock& clock);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  [[nodiscard]] Result<void> status() const { return status_; }
  [[nodiscard]] const Clock& clock() const noexcept { return clock_; }
  [[nodiscard]] TimePoint now() const { return clock_.now(); }

  /// Runs until stop(). @return the failure of the wait, which leaves nothing to run on.
  Result<void> run();
  /// One wait of at most `limit` and one batch. For tests and for a shutdown that drains.
  Result<void> turn(Duration limit);
  void stop() noexcept { stopping_ = true; }

  /// Takes an object whose sources are disarmed, or null; frees it after the batch in progress.
  void retire(std::unique_ptr<Retirable> object) {
    if (object != nullptr) retired_.push_back(std::move(object));
  }

  /// Returns the memory of registrations that have ended to the allocator, as far as possible. For
  /// use when most of many sources were disarmed.
  void release_memory();

  void add_hook(WaitHook& hook) {
    assert(std::ranges::find(hooks_, &hook) == hooks_.end());
    hooks_.push_back(&hook);
  }
  void remove_hook(WaitHook& hook) noexcept { std::erase(hooks_, &hook); }

  /// From the end of one wait to the beginning of the next, hooks included: so long everybody else
  /// had to wait at most.
  [[nodiscard]] Duration longest_turn() const noexcept { return longest_turn_.took; }
  /// How many turns there were, the one in progress included.
  [[nodiscard]] std::uint64_t turns() const noexcept { return turns_; }
  /// When a source was last ready; the distant past if none ever was.
  [[nodiscard]] TimePoint last_io() const noexcept { return last_io_; }
  /// Whether this turn was told of as many events as it takes: more sources may be ready.
  [[nodiscard]] bool is_saturated() const noexcept { return saturated_; }
  /// What of the longest turn took longest: the class of a handler, the function that made a timer.
  [[nodiscard]] std::string longest_turn_in() const { return longest_turn_.mostly.text(); }

 private:
  friend class IoSource;
  friend class Timer;
  /// What ran in a turn, for the log: nothing of it may take long.
  struct Step {
    enum class Kind : std::uint8_t { None, Io, Timer, Hook, Release };
    Kind kind = Kind::None;
    const std::type_info* handler = nullptr;  ///< of Io and Hook
    std::source_location owner{};             ///< of Timer
    Duration took{};
    [[nodiscard]] std::string text() const;
  };
  struct Turn {
    Duration took{};
    Step mostly;
  };
  /// One registration with the kernel.
  struct Entry {
    IoSource* source = nullptr;   ///< null: free
    std::uint32_t uses = 0;       ///< before this one
    std::uint32_t next_free = 0;  ///< of a free one: the next free one, see first_free_
  };

  [[nodiscard]] std::uint32_t add_entry(IoSource& source);
  void free_entry(std::uint32_t number) noexcept;
  [[nodiscard]] std::uint64_t key_of(std::uint32_t number) const;
  [[nodiscard]] IoSource* source_of(std::uint64_t key) const;

  void dispatch(std::span<const epoll_event> batch);
  void expire_timers();
  void run_hooks();
  /// Ends a step that began where the last one ended.
  void note(Step step);
  void end_turn(TimePoint now);
  [[nodiscard]] Duration wait_limit(TimePoint now, Duration limit) const;
  [[nodiscard]] int wait(std::span<epoll_event> events, Duration limit);

  const Clock& clock_;
  UniqueFd epoll_;
  Result<void> status_;
  std::vector<Entry> entries_;
  std::uint32_t first_free_ = 0;  ///< entries_.size(): none is free
  std::uint32_t least_uses_ = 0;  ///< of a new entry
  std::uint64_t turns_ = 0;
  std::set<std::pair<TimePoint, Timer*>> timers_;
  std::vector<std::unique_ptr<Retirable>> retired_;
  std::vector<WaitHook*> hooks_;
  TimePoint expiring_ = TimePoint::min();
  TimePoint woken_ = TimePoint::min();  ///< before the first wait
  TimePoint last_io_ = TimePoint::min();
  TimePoint noted_{};  ///< the end of the last step
  Step longest_step_;  ///< of this turn
  Turn longest_turn_;
  SlowTurns slow_turns_;
  bool stopping_ = false;
  bool dispatching_ = false;
  bool saturated_ = false;
  bool has_pwait2_ = true;  ///< until the kernel says that it lacks it
};

// Signals as loop events: SIGTERM, SIGINT and SIGHUP through a signalfd. Owned by main. The signals
// stay blocked for the thread; a child that is started must unblock them for itself.
class Signals final : private IoHandler {
 public:
  using Callback = std::move_only_function<void(int signal)>;
  /// @param callback called once for each signal that arrived, from the loop.
  Signals(EventLoop& loop, std::initializer_list<int> signals, Callback callback);

  /// @return the failure of signalfd(2) or epoll_ctl(2), if any; then no signal will be reported.
  [[nodiscard]] Result<void> status() const { return status_; }

 private:
  void on_io(IoSource& source, std::uint32_t events) override;

  Callback callback_;
  UniqueFd fd_;
  IoSource source_;
  Result<void> status_;
};

}  // namespace portfwd
