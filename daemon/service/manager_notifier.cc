#include "service/manager_notifier.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

namespace portfwd {

namespace {

void notify(const std::string& state) {
  (void)::sd_notify(0, state.c_str());
}

/// Twice as often as the manager wants it.
Duration watchdog_period() {
  std::uint64_t usec = 0;
  return ::sd_watchdog_enabled(0, &usec) > 0 ? std::chrono::microseconds(usec / 2)
                                             : Duration::zero();
}

}  // namespace

ManagerNotifier::ManagerNotifier(EventLoop& loop, const Control& control)
    : control_(control),
      status_(loop, [this] { send_status(); }),
      watchdog_(loop, [this] { ping(); }),
      period_(watchdog_period()) {
  if (period_ > Duration::zero()) watchdog_.arm_after(period_);
}

void ManagerNotifier::ready() {
  notify("READY=1");
  send_status();
}

void ManagerNotifier::stopping() {
  stopping_ = true;
  notify("STOPPING=1\nSTATUS=Waiting for open connections to finish");
}

void ManagerNotifier::send_status() {
  if (stopping_) return;
  notify(fmt::format("STATUS=Forwarding {} ports of {} containers", control_.forwards().size(),
                     control_.containers().size()));
}

void ManagerNotifier::ping() {
  notify("WATCHDOG=1");
  watchdog_.arm_after(period_);
}

}  // namespace portfwd
