// Turns the kernel's exec events into hints for Discovery, at a price that stays small: above some
// 20 a second they are taken in lots, above some 200 a second the socket is closed for a while.
// Owned by Discovery. It knows pids and nothing of containers.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "event/event_loop.h"
#include "kernel/proc_connector.h"

namespace portfwd {

class ExecHints final : private IoHandler {
 public:
  /// @param execs pids that have just called exec
  /// @param lost events were dropped: look at everything
  using Callback = std::function<void(std::span<const pid_t> execs, bool lost)>;
  ExecHints(EventLoop& loop, Callback callback);

  /// Joins; where the kernel does not grant it, nothing will come, and state() says why.
  void start();
  /// Events are known to come, as one has come, and it is no pause.
  [[nodiscard]] bool come() const noexcept { return granted_ && listening_.has_value(); }
  /// "yes", "none yet", "paused: ...", or "no: ..." with the reason, for `status`.
  [[nodiscard]] std::string state() const;

 private:
  struct Listening {
    Listening(EventLoop& loop, ProcConnector the_connector, IoHandler& handler)
        : connector(std::move(the_connector)), source(loop, connector.fd(), handler) {}
    ProcConnector connector;
    IoSource source;
  };
  void on_io(IoSource& source, std::uint32_t events) override;
  void take();
  void leave(Duration pause);
  void count(std::size_t events);

  EventLoop& loop_;
  Callback callback_;
  std::optional<Listening> listening_;
  Error refused_{};
  bool granted_ = false;
  TimePoint window_{};         ///< start of the second that is being counted
  std::size_t in_window_ = 0;  ///< events of that second
  Timer later_;                ///< to take a lot, or to join again
};

}  // namespace portfwd
