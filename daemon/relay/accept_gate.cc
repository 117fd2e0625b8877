#include "relay/accept_gate.h"

#include <algorithm>

namespace portfwd {

AcceptGate::AcceptGate(EventLoop& loop, AcceptGateObserver& observer)
    : loop_(loop), observer_(observer), reopen_(loop, [this] { tell_members(); }) {}

void AcceptGate::close(const Error& error) {
  if (!is_open()) return;
  closed_at_ = loop_.now();
  reopen_.arm_at(closed_at_ + kRetry);
  tell_members();
  if (!std::exchange(reported_, true)) observer_.on_descriptors_short(error);
}

void AcceptGate::descriptor_freed() {
  if (!is_open()) reopen_.arm_at(std::min(reopen_.when(), closed_at_ + kSoon));
}

void AcceptGate::tell_members() {
  for (Member* member : members_) member->on_gate();
}

}  // namespace portfwd
