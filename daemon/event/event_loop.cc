
#include "event/event_loop.h"

#include <sys/signalfd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <csignal>
#include <ctime>
#include <limits>
#include <utility>

#include "base/log.h"

namespace portfwd {

namespace {

constexpr std::size_t kBatch = 64;
constexpr Duration kLogPause = std::chrono::milliseconds(100);  // while log lines are queued

timespec to_timespec(Duration d) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(d);
  return {seconds.count(), (d - seconds).count()};
}

/// The timeout for epoll_wait(2), rounded up: a loop that wakes before its timer is due would spin.
int to_milliseconds(Duration d) {
  if (d == Duration::max()) return -1;
  const auto most = std::chrono::milliseconds(std::numeric_limits<int>::max());
  if (d >= most) return static_cast<int>(most.count());
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(d).count());
}

}  // namespace

Result<void> IoSource::watch(std::uint32_t events) {
  if (events == mask_) return {};
  if (events == 0) {
    disarm();
    return {};
  }
  if (fd_ < 0) return fail("epoll_ctl", EBADF);  // closed, or the owner could not open it
  const bool added = mask_ == 0;
  if (added) entry_ = loop_.add_entry(*this);
  epoll_event ev{};
  ev.events = events;
  ev.data.u64 = loop_.key_of(entry_);
  const int op = added ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (::epoll_ctl(loop_.epoll_.get(), op, fd_, &ev) != 0) {
    const auto failed = fail("epoll_ctl");
    if (added) loop_.free_entry(entry_);
    return failed;
  }
  mask_ = events;
  return {};
}

void IoSource::disarm() noexcept {
  if (std::exchange(mask_, 0) == 0) return;
  loop_.free_entry(entry_);
  ::epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
}

void IoSource::close(UniqueFd& owner) noexcept {
  assert(owner.valid() && owner.get() == fd_);
  if (std::exchange(mask_, 0) != 0) loop_.free_entry(entry_);
  fd_ = -1;
  owner.reset();
}

void Timer::arm_at(TimePoint when) {
  disarm();
  when_ = std::max(when, loop_.expiring_ + Duration(1));
  armed_ = true;
  loop_.timers_.emplace(when_, this);
}

void Timer::arm_after(Duration delay) {
  arm_at(loop_.now() + delay);
}

void Timer::disarm() noexcept {
  if (!std::exchange(armed_, false)) return;
  [[maybe_unused]] const std::size_t erased = loop_.timers_.erase({when_, this});
  assert(erased == 1);
}

EventLoop::EventLoop(const Clock& clock) : clock_(clock), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (!epoll_.valid()) status_ = fail("epoll_create1");
}

EventLoop::~EventLoop() {
  std::exchange(retired_, {}).clear();
  assert(timers_.empty());  // they borrow the loop
  assert(hooks_.empty());
}

std::uint32_t EventLoop::add_entry(IoSource& source) {
  const std::uint32_t number = first_free_;
  assert(number <= entries_.size());
  if (number == entries_.size()) entries_.push_back({.uses = least_uses_, .next_free = number + 1});
  Entry& entry = entries_[number];
  assert(entry.source == nullptr);
  first_free_ = entry.next_free;
  entry.source = &source;
  return number;
}

void EventLoop::free_entry(std::uint32_t number) noexcept {
  Entry& entry = entries_[number];
  assert(entry.source != nullptr);
  entry = {.source = nullptr, .uses = entry.uses + 1, .next_free = first_free_};
  first_free_ = number;
}

/// Entries keep their numbers, so only those at the end are freed. New entries at these numbers
/// begin with a count that none of the freed ones had, since an event of the batch in progress may
/// have the key of a freed one.
void EventLoop::release_memory() {
  for (; !entries_.empty() && entries_.back().source == nullptr; entries_.pop_back()) {
    least_uses_ = std::max(least_uses_, entries_.back().uses);
  }
  entries_.shrink_to_fit();
  first_free_ = static_cast<std::uint32_t>(entries_.size());
  for (std::uint32_t number = first_free_; number-- > 0;) {
    Entry& entry = entries_[number];
    if (entry.source != nullptr) continue;
    entry.next_free = std::exchange(first_free_, number);
  }
}

std::uint64_t EventLoop::key_of(std::uint32_t number) const {
  return std::uint64_t{entries_[number].uses} << 32 | number;
}

/// @return null if the registration with this key has ended
IoSource* EventLoop::source_of(std::uint64_t key) const {
  const auto number = static_cast<std::uint32_t>(key);
  if (number >= entries_.size()) return nullptr;  // the entry was freed
  return key_of(number) == key ? entries_[number].source : nullptr;
}

Result<void> EventLoop::run() {
  while (!std::exchange(stopping_, false)) {
    if (auto turned = turn(Duration::max()); !turned) return turned;
  }
  return {};
}

Result<void> EventLoop::turn(Duration limit) {
  assert(!dispatching_);  // a handler must not turn the loop
  run_hooks();
  std::array<epoll_event, kBatch> events;
  const TimePoint rested = clock_.now();
  end_turn(rested);
  if (!log::flush()) limit = std::min(limit, kLogPause);
  const int n = wait(events, wait_limit(rested, limit));
  if (n < 0 && errno != EINTR) return fail("epoll_wait");
  wait_ended_ = clock_.now();
  step_ended_ = wait_ended_;
  slow_turns_.sample(wait_ended_);
  ++turns_;
  const auto batch = std::span(events).first(static_cast<std::size_t>(std::max(n, 0)));
  saturated_ = batch.size() == kBatch;
  if (!batch.empty()) last_io_ = wait_ended_;
  dispatching_ = true;
  expire_timers();
  dispatch(batch);
  dispatching_ = false;
  if (!retired_.empty()) {
    std::exchange(retired_, {}).clear();  // here, and nowhere else while the loop runs
    end_step({.kind = LoopStep::Kind::Release});
  }
  return {};
}

/// Prefers epoll_pwait2, which has a resolution of nanoseconds and needs Linux 5.11.
int EventLoop::wait(std::span<epoll_event> events, Duration limit) {
  const int size = static_cast<int>(events.size());
  if (has_pwait2_) {
    const timespec timeout = to_timespec(limit);
    const int n = ::epoll_pwait2(epoll_.get(), events.data(), size,
                                 limit == Duration::max() ? nullptr : &timeout, nullptr);
    if (n >= 0 || errno != ENOSYS) return n;
    has_pwait2_ = false;
  }
  return ::epoll_wait(epoll_.get(), events.data(), size, to_milliseconds(limit));
}

void EventLoop::run_hooks() {
  for (std::size_t i = 0; i < hooks_.size(); ++i) {
    WaitHook& hook = *hooks_[i];
    const std::type_info& type = typeid(hook);
    hook.before_wait();
    end_step({.kind = LoopStep::Kind::Hook, .handler = &type});
  }
}

void EventLoop::end_step(LoopStep step) {
  const TimePoint now = clock_.now();
  step.took = now - std::exchange(step_ended_, now);
  if (step.took > longest_step_.took) longest_step_ = step;
}

void EventLoop::end_turn(TimePoint now) {
  const LoopStep longest = std::exchange(longest_step_, {});
  if (wait_ended_ == TimePoint::min()) return;
  const Duration took = now - wait_ended_;
  if (took > longest_turn_.took) longest_turn_ = {took, longest};
  if (took > SlowTurns::kSlow) slow_turns_.report(now, took, longest);
}

Duration EventLoop::wait_limit(TimePoint now, Duration limit) const {
  if (stopping_) return Duration::zero();
  if (timers_.empty()) return limit;
  return std::clamp(timers_.begin()->first - now, Duration::zero(), limit);
}

/// Calls only timers that were due on entry: a timer that arms itself for now must not starve the
/// sockets.
void EventLoop::expire_timers() {
  if (timers_.empty()) return;
  expiring_ = clock_.now();
  while (!timers_.empty() && timers_.begin()->first <= expiring_) {
    Timer* timer = timers_.begin()->second;
    assert(timer->armed_ && timer->when_ == timers_.begin()->first);
    const std::source_location owner = timer->owner_;  // the callback may be the timer's last
    timer->disarm();
    timer->callback_();
    end_step({.kind = LoopStep::Kind::Timer, .owner = owner});
  }
  expiring_ = TimePoint::min();
}

void EventLoop::dispatch(std::span<const epoll_event> batch) {
  for (const epoll_event& ev : batch) {
    IoSource* const source = source_of(ev.data.u64);
    if (source == nullptr) continue;  // disarmed or closed by an earlier handler
    assert(source->mask_ != 0);
    IoHandler& handler = source->handler_;
    const std::type_info& type = typeid(handler);  // before the call, in which it may finish
    handler.on_io(*source, ev.events);
    end_step({.kind = LoopStep::Kind::Io, .handler = &type});
  }
}

namespace {

UniqueFd open_signalfd(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

}  // namespace

Signals::Signals(EventLoop& loop, std::initializer_list<int> signals, Callback callback)
    : callback_(std::move(callback)), fd_(open_signalfd(signals)), source_(loop, fd_.get(), *this) {
  status_ = fd_.valid() ? source_.watch(EPOLLIN) : fail("signalfd");
}

void Signals::on_io(IoSource&, std::uint32_t) {
  signalfd_siginfo info{};
  while (::read(fd_.get(), &info, sizeof info) == sizeof info) {
    callback_(static_cast<int>(info.ssi_signo));
  }
}

}  // namespace portfwd
