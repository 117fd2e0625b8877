// Drives one sdbus-c++ connection from our event loop. Owned by the exports. Everything happens in
// one place, before each wait: drain what has come, let the owner send what it has put off, then
// ask anew what to wait for, since any of the two may have queued output or moved the timeout. The
// fd and the timer only say that something has come: turns of the loop that are about connections
// alone, thousands a second, ask the bus's socket nothing. It knows nothing of the objects on the
// connection.
#pragma once

#include <cstdint>
#include <string>

#include "event/event_loop.h"

namespace sdbus {
class IConnection;
}

namespace portfwd {

class BusWork {
 public:
  /// A message has been handled and none of its handlers is on the stack.
  virtual void after_message() = 0;
  /// Once per turn of the loop, after its messages.
  virtual void before_bus_wait() = 0;
  /// The connection is gone; called once, in the next turn of the loop.
  virtual void on_bus_lost(const std::string& why) = 0;

 protected:
  ~BusWork() = default;
};

class BusSource final : private WaitHook, private IoHandler {
 public:
  /// Borrows all three; throws sdbus::Error when the connection has no fd to wait on.
  BusSource(EventLoop& loop, sdbus::IConnection& connection, BusWork& work);
  BusSource(const BusSource&) = delete;
  BusSource& operator=(const BusSource&) = delete;
  ~BusSource() { loop_.remove_hook(*this); }

  [[nodiscard]] bool lost() const noexcept { return lost_; }

 private:
  void before_wait() override;
  void on_io(IoSource&, std::uint32_t) override { due_ = true; }
  /// @return whether messages may be left
  bool drain();
  void wait_for_what_it_needs();
  void lose(const char* why);

  EventLoop& loop_;
  sdbus::IConnection& connection_;
  BusWork& work_;
  IoSource source_;
  Timer deadline_;
  Timer farewell_;
  std::string why_lost_;
  bool due_ = true;  ///< something has come, or its time has
  bool lost_ = false;
};

}  // namespace portfwd
