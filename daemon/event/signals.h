// Signals as loop events: SIGTERM, SIGINT and SIGHUP through a signalfd. Owned by main. The signals
// stay blocked for the thread; a child that is started must unblock them for itself.
#pragma once

#include <functional>
#include <initializer_list>

#include "base/error.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace portfwd {

class Signals final : private IoHandler {
 public:
  using Callback = std::move_only_function<void(int signal)>;
  /// @param callback called once for each signal that arrived, from the loop.
  Signals(EventLoop& loop, std::initializer_list<int> signals, Callback callback);

  /// @return the failure of signalfd(2) or epoll_ctl(2), if any; then no signal will be reported.
  [[nodiscard]] Result<void> status() const { return status_; }

 private:
  void on_io(IoSource& source, std::uint32_t events) override;

  Callback callback_;
  UniqueFd fd_;
  IoSource source_;
  Result<void> status_;
};

}  // namespace portfwd
