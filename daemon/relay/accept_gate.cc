#include "relay/accept_gate.h"

#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>

namespace portfwd {

namespace {

int first_reserved_descriptor() {
  rlimit limit{};
  const bool known = ::getrlimit(RLIMIT_NOFILE, &limit) == 0;
  const auto most = static_cast<rlim_t>(std::numeric_limits<int>::max());
  const int all = static_cast<int>(known ? std::min(limit.rlim_cur, most) : most);
  return all - std::min(all / 8, AcceptGate::kReserve);
}

}  // namespace

AcceptGate::AcceptGate(EventLoop& loop, AcceptGateObserver& observer)
    : loop_(loop),
      observer_(observer),
      accept_below_(first_reserved_descriptor()),
      reopen_(loop, [this] { try_to_open(); }) {}

void AcceptGate::close(const Error& error) {
  if (!is_open()) return;
  closed_at_ = loop_.now();
  reopen_.arm_at(closed_at_ + kRetry);
  tell_members();
  if (!std::exchange(reported_, true)) observer_.on_descriptors_short(error);
}

void AcceptGate::accepted(int fd) {
  if (fd >= accept_below_) close({EMFILE, "accept"});
}

void AcceptGate::descriptor_freed() {
  if (!is_open()) reopen_.arm_at(std::min(reopen_.when(), closed_at_ + kSoon));
}

void AcceptGate::try_to_open() {
  if (has_room()) return tell_members();
  closed_at_ = loop_.now();
  reopen_.arm_at(closed_at_ + kRetry);
}

bool AcceptGate::has_room() const {
  const UniqueFd probe(::eventfd(0, EFD_CLOEXEC));
  return probe.valid() && probe.get() < accept_below_;
}

void AcceptGate::tell_members() {
  for (Member* member : members_) member->on_gate();
}

}  // namespace portfwd
