#include "relay/loop_guard.h"

#include <algorithm>
#include <cassert>

namespace portfwd {

LoopGuard::Step LoopGuard::on_client(TimePoint now, std::uint64_t from_target) {
  if (state_ == State::Refusing) {
    if (now < refused_until_) return Step::Refuse;
    state_ = State::Counting;
  }
  const bool answered = from_target != from_target_;
  if (answered || unfollowed_ == 0 || now - connected_ > kMaxFollowDelay) {
    if (state_ != State::Counting) suspend_detection(now);
    if (answered) found_ = false;
    start_burst(from_target);
    return Step::Dial;
  }
  assert(unfollowed_ > 0 && unfollowed_ <= kParallel);
  --unfollowed_;
  ++size_;
  switch (state_) {
    case State::Counting:
      if (size_ <= (found_ ? kRepeated : kBurst) || now < trusted_until_) return Step::Dial;
      round_ = 0;
      return hold(now);
    case State::Holding:
      return Step::Hold;  // the rest of a parallel loop through the same port
    case State::Released:
    case State::Refusing:
      break;
  }
  if (++round_ < kHolds.size()) return hold(now);
  state_ = State::Refusing;
  refused_until_ = now + kRefusalTime;
  found_ = true;
  return Step::ResetBurst;
}

LoopGuard::Step LoopGuard::hold(TimePoint now) {
  assert(round_ < kHolds.size());
  state_ = State::Holding;
  held_until_ = now + kHolds[round_];
  return Step::Hold;
}

void LoopGuard::on_connected(TimePoint now) {
  connected_ = now;
  unfollowed_ = static_cast<std::uint8_t>(std::min<unsigned>(unfollowed_ + 1U, kParallel));
}

void LoopGuard::on_ended(TimePoint now) {
  if (state_ == State::Refusing) return;
  if (state_ != State::Counting) suspend_detection(now);
  start_burst(from_target_);
}

void LoopGuard::on_hold_over() {
  if (state_ != State::Holding) return;
  state_ = State::Released;
  unfollowed_ = 0;
}

void LoopGuard::reset() {
  const std::uint32_t burst = burst_ + 1;
  *this = LoopGuard();
  burst_ = burst;
}

void LoopGuard::start_burst(std::uint64_t from_target) {
  ++burst_;
  size_ = 1;
  unfollowed_ = 0;
  from_target_ = from_target;
}

void LoopGuard::suspend_detection(TimePoint now) {
  state_ = State::Counting;
  trusted_until_ = now + kNoSuspicionTime;
}

}  // namespace portfwd
