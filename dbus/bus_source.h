// Drives one connection of sd-bus from our event loop. Owned by the bus service. Everything happens
// in one place, before each wait: drain what has come, let the owner send what it has put off, then
// ask anew what to wait for, since any of the two may have queued output or moved the timeout. The
// fd and the timer only say that something has come: turns of the loop that are about connections
// alone, thousands a second, ask the bus's socket nothing. It knows nothing of the objects on the
// connection.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <string>

#include "event/event_loop.h"

namespace portfwd {

class BusSource final : private WaitHook, private IoHandler {
 public:
  /// Called from the loop; they must not destroy the source.
  struct Callbacks {
    /// Once per turn, after its messages.
    std::move_only_function<void()> before_wait;
    /// The connection is gone; called once, in the next turn.
    std::move_only_function<void(const std::string& why)> on_lost;
  };

  /// Borrows both.
  BusSource(EventLoop& loop, sd_bus* bus, Callbacks callbacks);
  BusSource(const BusSource&) = delete;
  BusSource& operator=(const BusSource&) = delete;
  ~BusSource() { loop_.remove_hook(*this); }

  [[nodiscard]] bool lost() const noexcept { return lost_; }

 private:
  void before_wait() override;
  void on_io(IoSource&, std::uint32_t) override { due_ = true; }
  [[nodiscard]] Result<bool> drain();
  Result<void> wait_for_what_it_needs();
  void lose(const Error& error);

  EventLoop& loop_;
  sd_bus* bus_;
  Callbacks callbacks_;
  IoSource source_;
  Timer deadline_;
  Timer farewell_;
  std::string why_lost_;
  bool due_ = true;  ///< something has come, or its time has
  bool lost_ = false;
};

}  // namespace portfwd
