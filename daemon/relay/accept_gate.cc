#include "relay/accept_gate.h"

#include <sys/eventfd.h>

#include <algorithm>

namespace portfwd {

namespace {

constexpr Duration kCalm = std::chrono::seconds(1);  ///< between one shortage and another

int lowest_free_descriptor() {
  const UniqueFd probe(::eventfd(0, EFD_CLOEXEC));
  return probe.valid() ? probe.get() : DescriptorLimits::kNone;
}

}  // namespace

AcceptGate::AcceptGate(EventLoop& loop, AcceptGateObserver& observer)
    : loop_(loop), observer_(observer), look_again_(loop, [this] { look_again(); }) {}

/// Half of what the busiest has is few. So somebody without any is always admitted.
bool AcceptGate::admits(const Member& member) const {
  if (shortage_ == Shortage::None) return true;
  return shortage_ == Shortage::BusiestWait && 2 * member.connections() <= most_connections_;
}

std::size_t AcceptGate::kept_waiting() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(members_, [this](const Member* m) { return !admits(*m); }));
}

Shortage AcceptGate::measured_shortage() const {
  return std::max(shortage_, shortage_with(lowest_free_descriptor()));
}

Shortage AcceptGate::shortage_with(int in_use) const {
  if (in_use >= limits_.reserve_from - claimed_) return Shortage::AllWait;
  return in_use >= limits_.short_from - claimed_ ? Shortage::BusiestWait : Shortage::None;
}

void AcceptGate::accepted(int fd, Member& by) {
  if (const Shortage now = shortage_with(fd); now > shortage_)
    return enter(now, {EMFILE, "accept"});
  if (!admits(by)) by.on_gate();
}

void AcceptGate::enter(Shortage shortage, const Error& error) {
  if (shortage <= shortage_) return;
  const bool another = loop_.now() - looked_at_ >= kCalm;  // no look since, so there was no need
  settle(shortage);
  if (!std::exchange(reported_, true) && another) observer_.on_descriptors_short(error);
}

void AcceptGate::descriptor_freed() {
  if (look_again_.armed()) look_again_.arm_at(std::min(look_again_.when(), looked_at_ + kSoon));
}

void AcceptGate::look_again() {
  settle(shortage_with(lowest_free_descriptor()));
}

void AcceptGate::settle(Shortage shortage) {
  shortage_ = shortage;
  looked_at_ = loop_.now();
  most_connections_ = 0;
  for (const Member* m : members_)
    most_connections_ = std::max(most_connections_, m->connections());
  if (shortage != Shortage::None) look_again_.arm_at(looked_at_ + kRetry);
  for (Member* member : members_) member->on_gate();
}

}  // namespace portfwd
