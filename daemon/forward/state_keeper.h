// When the state is written: some time after the first change, with all that changed meanwhile, and
// at the end. Owned by the controller. A failure is logged once until it works again, and nothing
// else comes of it: the daemon goes on without a memory.
#pragma once

#include <functional>

#include "event/event_loop.h"
#include "forward/state_file.h"

namespace portfwd {

class StateKeeper {
 public:
  /// Rarely enough that fsync(2), which the loop waits for, is no load; soon enough for a crash. A
  /// full state is 120 kB: 3 ms in all where fsync(2) takes 2.
  static constexpr Duration kDelay = std::chrono::seconds(1);
  using Read = std::move_only_function<State()>;

  /// @param file borrowed @param read gives the state as it is; called from the loop and write()
  StateKeeper(EventLoop& loop, const StateFile& file, Read read)
      : file_(file), read_(std::move(read)), write_(loop, [this] { write(); }) {}

  void changed() {
    if (!finished_ && !write_.armed()) write_.arm_after(kDelay);
  }
  /// Writes now what has changed, if anything has, and nothing from then on: what is given up at
  /// the end is to be known again.
  void finish() {
    finished_ = true;
    if (write_.armed()) write();
  }

 private:
  void write();

  const StateFile& file_;
  Read read_;
  Timer write_;
  bool finished_ = false;
  bool failure_told_ = false;
};

}  // namespace portfwd
