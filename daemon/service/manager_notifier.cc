#include "service/manager_notifier.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace portfwd {

/// Source: sd_notify(3), unix(7). An abstract name begins with a NUL byte and has no terminator.
NotifySocket::NotifySocket(const char* address) {
  const std::string_view name = address == nullptr ? "" : address;
  sockaddr_un to{AF_UNIX, {}};
  const bool known = name.starts_with('/') || name.starts_with('@');
  if (!known || name.size() >= sizeof to.sun_path) return;
  name.copy(to.sun_path, name.size());
  if (name.front() == '@') to.sun_path[0] = '\0';
  address_.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  std::memcpy(&address_.storage, &to, sizeof to);
  fd_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

bool NotifySocket::send(std::string_view assignments) const {
  if (!fd_.valid()) return true;
  return ::sendto(fd_.get(), assignments.data(), assignments.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                  address_.get(), address_.length) >= 0 ||
         errno != EAGAIN;  // any other error is final: the manager is gone
}

namespace {

/// Half of the manager's timeout.
Duration watchdog_period() {
  std::uint64_t usec = 0;
  return ::sd_watchdog_enabled(0, &usec) > 0 ? std::chrono::microseconds(usec / 2)
                                             : Duration::zero();
}

}  // namespace

ManagerNotifier::ManagerNotifier(EventLoop& loop)
    : manager_(std::getenv("NOTIFY_SOCKET")),
      next_(loop, [this] { send_state(); }),
      watchdog_(loop, [this] { ping(); }),
      period_(watchdog_period()) {
  if (period_ > Duration::zero()) watchdog_.arm_after(period_);
}

void ManagerNotifier::ready() {
  must_arrive_ = "READY=1\n";
  send_state();
}

void ManagerNotifier::stopping() {
  stopping_ = true;
  must_arrive_ += "STOPPING=1\n";
  send_state();
}

void ManagerNotifier::send_state() {
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
  (void)manager_.send("WATCHDOG=1");  // after a failure the next one follows soon
  watchdog_.arm_after(period_);
}

}  // namespace portfwd
