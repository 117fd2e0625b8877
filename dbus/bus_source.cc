#include "dbus/bus_source.h"

#include <chrono>
#include <utility>

namespace portfwd {
namespace {

constexpr int kMessagesPerTurn = 64;  // a caller that floods the bus must not delay the relays

}  // namespace

BusSource::BusSource(EventLoop& loop, sd_bus* bus, Callbacks callbacks)
    : loop_(loop),
      bus_(bus),
      callbacks_(std::move(callbacks)),
      source_(loop, ::sd_bus_get_fd(bus), *this),
      deadline_(loop, [this] { due_ = true; }),
      lost_notification_(loop, [this] { callbacks_.on_lost(lost_reason_); }) {
  loop_.add_hook(*this);
}

void BusSource::before_wait() {
  if (lost_) return;
  const auto more = std::exchange(due_, false) ? drain() : Result<bool>(false);
  if (!more) return mark_lost(more.error());
  callbacks_.before_wait();
  if (const auto waits = update_wait(); !waits) return mark_lost(waits.error());
  if (*more) deadline_.arm_now();
}

/// @return whether unprocessed messages may remain
Result<bool> BusSource::drain() {
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    const int r = ::sd_bus_process(bus_, nullptr);
    if (r < 0) return fail("sd_bus_process", -r);
    if (r == 0) return false;
  }
  return true;
}

Result<void> BusSource::update_wait() {
  const int events = ::sd_bus_get_events(bus_);  // poll(2) bits, which are epoll's
  if (events < 0) return fail("sd_bus_get_events", -events);
  if (auto watched = source_.watch(static_cast<std::uint32_t>(events)); !watched) return watched;
  std::uint64_t until = 0;  // µs of CLOCK_MONOTONIC, as the loop's clock
  if (const int r = ::sd_bus_get_timeout(bus_, &until); r < 0) {
    return fail("sd_bus_get_timeout", -r);
  }
  if (until == UINT64_MAX) {
    deadline_.disarm();
  } else {
    deadline_.arm_at(TimePoint(std::chrono::microseconds(until)));
  }
  return {};
}

/// sd-bus reports an end of file on the socket as ECONNRESET or ENOTCONN from the next call.
/// Notifies the owner by a timer in the next turn, when no function of this object is on the stack.
void BusSource::mark_lost(const Error& error) {
  lost_ = true;
  lost_reason_ = error.text();
  source_.disarm();
  deadline_.disarm();
  lost_notification_.arm_now();
}

}  // namespace portfwd
