// Notifications to the service manager: READY once, STATUS when it has changed, the watchdog's
// keep-alive, STOPPING at the end. Owned by main. Sends nothing without $NOTIFY_SOCKET. While the
// manager's queue is full, messages are sent later.
#pragma once

#include <string>
#include <string_view>

#include "api/control.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "net/address.h"

namespace portfwd {

// Datagram socket that sends to $NOTIFY_SOCKET and never blocks. sd_notify(3) would block the
// daemon, and with it every connection, while a busy manager reads nothing. Owned by
// ManagerNotifier.
class NotifySocket {
 public:
  /// @param address value of $NOTIFY_SOCKET: a path, or "@" and an abstract name; null or anything
  /// else: there is no manager
  explicit NotifySocket(const char* address);

  /// @return false when the manager's queue is full: send it again later
  [[nodiscard]] bool send(std::string_view assignments) const;

 private:
  UniqueFd fd_;  ///< invalid without a manager
  SockAddr address_;
};

class ManagerNotifier final : public ControlObserver {
 public:
  /// Borrows the loop. Counts forwards and containers, so it must observe from the first one on.
  /// Source: sd_notify(3), sd_watchdog_enabled(3).
  explicit ManagerNotifier(EventLoop& loop);

  void ready();
  void stopping();

  void on_forward_added(const ForwardInfo&) override { count(forwards_, 1); }
  void on_forward_removed(const ForwardInfo&) override { count(forwards_, -1); }
  void on_container_added(const ContainerInfo&) override { count(containers_, 1); }
  void on_container_removed(const ContainerInfo&) override { count(containers_, -1); }

 private:
  static constexpr Duration kPause = std::chrono::milliseconds(100);

  void count(int& what, int change) {
    what += change;
    if (!next_.armed()) next_.arm_after(kPause);  // a burst becomes one message
  }
  void send_state();
  void ping();

  int forwards_ = 0;
  int containers_ = 0;
  NotifySocket manager_;
  std::string must_arrive_;  ///< READY and STOPPING, until they are sent
  Timer next_;
  Timer watchdog_;
  Duration period_{};  ///< zero: no watchdog
  bool stopping_ = false;
};

}  // namespace portfwd
