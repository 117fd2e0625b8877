// The orderly end: every forward is withdrawn and told about, live connections may finish, then the
// loop stops. A second request ends at once. Owned by main. A later hand-over across a restart
// takes its place here, before the forwards are withdrawn.
#pragma once

#include <string_view>
#include <utility>

#include "base/log.h"
#include "event/event_loop.h"
#include "api/controller.h"
#include "service/exit_status.h"
#include "service/manager_notifier.h"

namespace portfwd {

class Shutdown final : private WaitHook {
 public:
  Shutdown(EventLoop& loop, Controller& controller, ManagerNotifier& notifier)
      : loop_(loop), controller_(controller), notifier_(notifier) {
    loop_.add_hook(*this);
  }
  Shutdown(const Shutdown&) = delete;
  Shutdown& operator=(const Shutdown&) = delete;
  ~Shutdown() { loop_.remove_hook(*this); }

  /// @param why for the log @param status of the process; the first one counts
  void begin(std::string_view why, Exit status = kDone) {
    if (std::exchange(begun_, true)) return loop_.stop();
    status_ = status;
    log::info("ending: {}", why);
    notifier_.stopping();
    controller_.stop();
  }
  [[nodiscard]] Exit status() const { return status_; }

 private:
  void before_wait() override {
    if (begun_ && !controller_.draining()) loop_.stop();
  }

  EventLoop& loop_;
  Controller& controller_;
  ManagerNotifier& notifier_;
  bool begun_ = false;
  Exit status_ = kDone;
};

}  // namespace portfwd
