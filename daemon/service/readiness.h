// The moment at which the service manager is told that the daemon is ready: when what was open at
// the start is forwarded, so that units which are ordered after it find their ports; after
// kPatience at the latest, since some container may never answer. Owned by main.
#pragma once

#include <chrono>

#include "event/event_loop.h"
#include "api/controller.h"
#include "service/manager_notifier.h"

namespace portfwd {

class Readiness final : private WaitHook {
 public:
  static constexpr Duration kPatience = std::chrono::seconds(1);

  /// All are borrowed.
  Readiness(EventLoop& loop, const Controller& controller, ManagerNotifier& notifier)
      : loop_(loop),
        controller_(controller),
        notifier_(notifier),
        patience_(loop, [this] { end(); }) {
    loop_.add_hook(*this);
  }
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;
  ~Readiness() { loop_.remove_hook(*this); }

  /// Precondition: the controller has started.
  void begin() { patience_.arm_after(kPatience); }

 private:
  void before_wait() override {
    if (patience_.armed() && controller_.settled()) end();
  }
  void end() {
    patience_.disarm();
    notifier_.ready();
  }

  EventLoop& loop_;
  const Controller& controller_;
  ManagerNotifier& notifier_;
  Timer patience_;
};

}  // namespace portfwd
