// Schedule for writing the State: soon after a change, together with everything that changed
// meanwhile, at most once in kDelay, and at the end. Owned by the controller. Only the shutdown
// waits for the disk, and for a limited time. A failure is logged once until writing works again,
// and is retried; meanwhile the daemon runs without a saved state.
//
// States: idle, until something changes; waiting, for kSoon or for the rest of kDelay; writing,
// when a further change makes it wait again after the writer has answered. After a failed write it
// waits for the retry, each time twice as long, and changes wait for that too. finish() writes the
// last state as soon as the writer is free; finishing() ends with that write, or after kLongestEnd.
// If the file could not be read it stays idle: the contents of the file are not replaced by the
// current state.
// knows.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "broker/client/file_writer.h"
#include "event/event_loop.h"
#include "state/state.h"

namespace portfwd {

class StateKeeper {
 public:
  /// Between two writes: rare enough that a process and an fsync(2) are no load.
  static constexpr Duration kDelay = std::chrono::seconds(1);
  /// From a change to its write after a quiet time, so that changes at the same time are written
  /// together. A SIGKILL within this time loses the change.
  static constexpr Duration kSoon = std::chrono::milliseconds(50);
  static constexpr Duration kFirstRetry = std::chrono::seconds(1);
  static constexpr Duration kLongestRetry = std::chrono::seconds(60);
  static constexpr Duration kLongestEnd = std::chrono::seconds(2);
  using Read = std::move_only_function<State()>;

  /// @param file, writer borrowed @param read returns the current state; called from the loop
  StateKeeper(EventLoop& loop, const StateFile& file, FileWriter& writer, Read read)
      : loop_(loop),
        file_(file),
        writer_(writer),
        read_(std::move(read)),
        write_(loop, [this] { write(text_of(read_())); }),
        give_up_(loop, [this] { give_up(); }) {}

  /// Reads what the last run has saved. Must be called once, before changed().
  [[nodiscard]] State load();
  void changed();
  /// Retries a failed write at once, in case the cause was fixed.
  void retry();
  /// Why the state is not saved; "" while it is.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  /// Writes the last state if anything has changed, and nothing afterwards.
  /// @param last from before the shutdown withdraws the forwards, so that the next start knows them
  void finish(const State& last);
  /// Whether the last state is still being written.
  [[nodiscard]] bool finishing() const { return give_up_.armed(); }

 private:
  [[nodiscard]] static std::string text_of(const State& state) {
    return to_text(state, StateFile::kMostBytes);
  }
  void schedule();
  void write(const std::string& text);
  void on_written(const Result<void>& saved);
  void note_failure(const Error& error);
  void give_up();

  EventLoop& loop_;
  const StateFile& file_;
  FileWriter& writer_;
  Read read_;
  bool read_only_ = false;  ///< the contents of the file could not be read
  std::string problem_;
  Duration pause_ = kFirstRetry;        ///< before the next retry
  TimePoint began_ = TimePoint::min();  ///< when the last write began
  bool again_ = false;                  ///< the state changed while it was written
  std::optional<std::string> last_;     ///< to be written when the writer is free
  bool finished_ = false;
  Timer write_;
  Timer give_up_;  ///< armed from finish() until everything is written
};

}  // namespace portfwd
