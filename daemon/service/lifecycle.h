// Lifecycle of the daemon: readiness and shutdown, as its service manager sees them, and returning
// memory in between. All are owned by main.
#pragma once

#include <malloc.h>

#include <chrono>
#include <string_view>
#include <utility>

#include "api/controller.h"
#include "base/log.h"
#include "discover/container.h"
#include "event/event_loop.h"
#include "service/manager_notifier.h"
#include "service/process_setup.h"

namespace portfwd {

// Notifies the service manager that the daemon is ready: once the ports that were open at the start
// are forwarded, so that units ordered after it find them; after kPatience at the latest, since a
// container may never answer.
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
    if (patience_.armed() && controller_.all_reported()) end();
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

// Orderly shutdown: every forward is withdrawn and its removal emitted, live connections may
// finish, then the loop stops. A second request stops it at once. A hand-over across a restart
// belongs here, before the forwards are withdrawn.
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
    log::info("shutting down: {}", why);
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

// Returns memory to the kernel after containers have ended. The heap of a daemon that has seen
// hundreds of containers otherwise keeps its largest size: glibc returns only memory that is free
// at the end of the heap.
class MemoryTrim final : public RegistryObserver {
 public:
  explicit MemoryTrim(EventLoop& loop) : trim_(loop, [] { (void)::malloc_trim(kKeep); }) {}

 private:
  static constexpr std::size_t kKeep = 256UL << 10;  ///< bytes that are soon used again
  /// Other containers may end meanwhile, and names, clients and answers that belong to them.
  static constexpr Duration kDelay = std::chrono::seconds(2);

  void on_container_added(const Container&) override {}
  void on_container_changed(const Container&) override {}
  void on_container_removed(const Container&, RemovalReason) override {
    if (!trim_.armed()) trim_.arm_after(kDelay);
  }
  void on_sign_of_life(const Container&) override {}

  Timer trim_;
};

}  // namespace portfwd
