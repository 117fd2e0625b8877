// One sd-bus connection as a source of the event loop. Owned by the bus service; independent of the
// objects on the connection.
//
// All work is done before each wait of the loop: process incoming messages, let the owner send what
// it deferred, then query which events and timeout to wait for, since both steps may queue output
// or change the timeout. The descriptor and the timer only mark the connection as due, so the turns
// of the loop that concern relayed connections alone, thousands a second, make no system call on
// the bus socket.
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <string>

#include "event/event_loop.h"

namespace portfwd {

class BusSource final : private WaitHook, private IoHandler {
 public:
  /// Called from the loop; must not destroy the source.
  struct Callbacks {
    /// Called once per turn, after the messages of the turn.
    std::move_only_function<void()> before_wait;
    /// Called once, in the turn after the one that found the connection lost.
    std::move_only_function<void(const std::string& why)> on_lost;
  };

  /// Borrows `loop` and `bus`.
  BusSource(EventLoop& loop, sd_bus* bus, Callbacks callbacks);
  BusSource(const BusSource&) = delete;
  BusSource& operator=(const BusSource&) = delete;
  ~BusSource() { loop_.remove_hook(*this); }

  [[nodiscard]] bool lost() const noexcept { return lost_; }

 private:
  void before_wait() override;
  void on_io(IoSource&, std::uint32_t) override { due_ = true; }
  [[nodiscard]] Result<bool> drain();
  Result<void> update_wait();
  void mark_lost(const Error& error);

  EventLoop& loop_;
  sd_bus* bus_;
  Callbacks callbacks_;
  IoSource source_;
  Timer deadline_;
  Timer lost_notification_;
  std::string lost_reason_;
  bool due_ = true;  ///< messages may have arrived, or the timeout of sd-bus has expired
  bool lost_ = false;
};

}  // namespace portfwd
