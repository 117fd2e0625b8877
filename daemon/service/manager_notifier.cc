#include "service/manager_notifier.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include <cstdlib>

namespace portfwd {

namespace {

/// Twice as often as the manager wants it.
Duration watchdog_period() {
  std::uint64_t usec = 0;
  return ::sd_watchdog_enabled(0, &usec) > 0 ? std::chrono::microseconds(usec / 2)
                                             : Duration::zero();
}

}  // namespace

ManagerNotifier::ManagerNotifier(EventLoop& loop)
    : manager_(std::getenv("NOTIFY_SOCKET")),
      next_(loop, [this] { tell(); }),
      watchdog_(loop, [this] { ping(); }),
      period_(watchdog_period()) {
  if (period_ > Duration::zero()) watchdog_.arm_after(period_);
}

void ManagerNotifier::ready() {
  must_arrive_ = "READY=1\n";
  tell();
}

void ManagerNotifier::stopping() {
  stopping_ = true;
  must_arrive_ += "STOPPING=1\n";
  tell();
}

void ManagerNotifier::tell() {
  const std::string status = stopping_ ? "STATUS=Waiting for open connections to finish"
                                       : fmt::format("STATUS=Forwarding {} ports of {} containers",
                                                     forwards_, containers_);
  if (manager_.send(must_arrive_ + status)) {
    must_arrive_.clear();
  } else {
    next_.arm_after(kPause);
  }
}

void ManagerNotifier::ping() {
  (void)manager_.send("WATCHDOG=1");  // the next one follows soon
  watchdog_.arm_after(period_);
}

}  // namespace portfwd
