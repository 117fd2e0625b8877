#include "relay/accept_gate.h"

#include <sys/eventfd.h>

#include <algorithm>

namespace portfwd {

namespace {

constexpr Duration kNewShortageAfter =
    std::chrono::seconds(1);  ///< time without a shortage, after which one is another

int lowest_free_descriptor() {
  const UniqueFd probe(::eventfd(0, EFD_CLOEXEC));
  return probe.valid() ? probe.get() : DescriptorLimits::kNone;
}

}  // namespace

AcceptGate::Member::Member(AcceptGate& gate, OnChange on_change)
    : gate_(gate), on_change_(std::move(on_change)) {
  gate_.members_.push_back(this);
}

AcceptGate::Member::~Member() {
  [[maybe_unused]] const auto removed = std::erase(gate_.members_, this);
  assert(removed == 1);
}

void AcceptGate::Member::accepted(int fd) {
  assert(fd >= 0);
  if (const Shortage now = gate_.shortage_with(fd); now > gate_.shortage_) {
    return gate_.enter(now, {EMFILE, "accept"});
  }
  if (!admitted() && on_change_) on_change_();
}

AcceptGate::AcceptGate(EventLoop& loop, OnShortage on_shortage)
    : loop_(loop),
      on_shortage_(std::move(on_shortage)),
      measure_again_(loop, [this] { measure_again(); }) {}

/// With Shortage::BusiestWait, admits members with at most half as many connections as the busiest
/// one, and so every member without any.
bool AcceptGate::admits(const Member& member) const {
  if (shortage_ == Shortage::None) return true;
  return shortage_ == Shortage::BusiestWait && 2 * member.connections_ <= most_connections_;
}

std::size_t AcceptGate::paused_members() const {
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

void AcceptGate::enter(Shortage shortage, const Error& error) {
  if (shortage <= shortage_) return;
  // While descriptors are short, they are measured every kRetry.
  const bool another = loop_.now() - measured_at_ >= kNewShortageAfter;
  set_shortage(shortage);
  if (!std::exchange(reported_, true) && another) on_shortage_(error);
}

void AcceptGate::descriptor_freed() {
  if (measure_again_.armed()) {
    measure_again_.arm_at(std::min(measure_again_.when(), measured_at_ + kEarliestRetry));
  }
}

void AcceptGate::measure_again() {
  set_shortage(shortage_with(lowest_free_descriptor()));
}

void AcceptGate::set_shortage(Shortage shortage) {
  shortage_ = shortage;
  measured_at_ = loop_.now();
  most_connections_ = 0;
  for (const Member* m : members_) most_connections_ = std::max(most_connections_, m->connections_);
  if (shortage != Shortage::None) measure_again_.arm_at(measured_at_ + kRetry);
  for (Member* member : members_) {
    if (member->on_change_) member->on_change_();
  }
}

}  // namespace portfwd
