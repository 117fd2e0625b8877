#include "event/event_loop.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <limits>

namespace portfwd {

namespace {

constexpr std::size_t kBatch = 64;

timespec to_timespec(Duration d) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(d);
  return {seconds.count(), (d - seconds).count()};
}

/// For epoll_wait(2), rounded up: a loop that wakes before its timer is due would spin until then.
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
  epoll_event ev{};
  ev.events = events;
  ev.data.ptr = this;
  const int op = mask_ == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (::epoll_ctl(loop_.epoll_.get(), op, fd_, &ev) != 0) return fail("epoll_ctl");
  mask_ = events;
  return {};
}

void IoSource::disarm() noexcept {
  for (epoll_event& ev : loop_.batch_) {
    if (ev.data.ptr == this) ev.data.ptr = nullptr;
  }
  if (std::exchange(mask_, 0) != 0) ::epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_DEL, fd_, nullptr);
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
  if (std::exchange(armed_, false)) loop_.timers_.erase({when_, this});
}

EventLoop::EventLoop(const Clock& clock) : clock_(clock), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

EventLoop::~EventLoop() {
  std::exchange(retired_, {}).clear();
}

Result<void> EventLoop::run() {
  while (!std::exchange(stopping_, false)) {
    if (auto turned = turn(Duration::max()); !turned) return turned;
  }
  return {};
}

Result<void> EventLoop::turn(Duration limit) {
  for (std::size_t i = 0; i < hooks_.size(); ++i) hooks_[i]->before_wait();
  std::array<epoll_event, kBatch> events;
  const TimePoint rested = clock_.now();
  if (woken_ > TimePoint::min()) longest_turn_ = std::max(longest_turn_, rested - woken_);
  const int n = wait(events, wait_limit(rested, limit));
  if (n < 0 && errno != EINTR) return fail("epoll_wait");
  woken_ = clock_.now();
  batch_ = {events.data(), static_cast<std::size_t>(std::max(n, 0))};  // timers may disarm, too
  expire_timers();
  dispatch();
  std::exchange(retired_, {}).clear();  // the only place where finished objects die
  return {};
}

/// epoll_pwait2 has nanoseconds, and is of Linux 5.11.
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

Duration EventLoop::wait_limit(TimePoint now, Duration limit) const {
  if (stopping_) return Duration::zero();
  if (timers_.empty()) return limit;
  return std::clamp(timers_.begin()->first - now, Duration::zero(), limit);
}

/// Only what was due on entry: a timer that arms itself for now must not starve the sockets.
void EventLoop::expire_timers() {
  if (timers_.empty()) return;
  expiring_ = clock_.now();
  while (!timers_.empty() && timers_.begin()->first <= expiring_) {
    Timer* timer = timers_.begin()->second;
    timer->disarm();
    timer->callback_();
  }
  expiring_ = TimePoint::min();
}

void EventLoop::dispatch() {
  for (epoll_event& ev : batch_) {
    if (auto* source = static_cast<IoSource*>(ev.data.ptr)) {
      source->handler_.on_io(*source, ev.events);
    }
  }
  batch_ = {};
}

}  // namespace portfwd
