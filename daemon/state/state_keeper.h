// When the state is written: soon after a change, with all that changed meanwhile, at most once in
// kDelay, and at the end. Owned by the controller. Nobody waits for the disk but the end, and that
// not for long. A failure is logged once until it works again, and retried; meanwhile the daemon
// goes on without a memory.
//
// Idle, until something changes; waiting for kSoon or for the rest of kDelay; writing, when a
// further change makes it wait anew after the writer has answered. A write that fails makes it wait
// for the retry, each time twice as long, and changes wait for that, too. finish() goes to writing
// the last state as soon as the writer is free; finishing() ends with it, or after kLongestEnd.
// Once the file could not be read it stays idle: what is in it is not replaced by what this life
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
  /// From one write to the next: rarely enough that a process and fsync(2) are no load.
  static constexpr Duration kDelay = std::chrono::seconds(1);
  /// From a change to its write after a quiet time, so that what changes together is written
  /// together. A SIGKILL meanwhile loses the change.
  static constexpr Duration kSoon = std::chrono::milliseconds(50);
  static constexpr Duration kFirstRetry = std::chrono::seconds(1);
  static constexpr Duration kLongestRetry = std::chrono::seconds(60);
  static constexpr Duration kLongestEnd = std::chrono::seconds(2);
  using Read = std::move_only_function<State()>;

  /// @param file, writer borrowed @param read gives the state as it is; called from the loop
  StateKeeper(EventLoop& loop, const StateFile& file, FileWriter& writer, Read read)
      : loop_(loop),
        file_(file),
        writer_(writer),
        read_(std::move(read)),
        write_(loop, [this] { write(text_of(read_())); }),
        give_up_(loop, [this] { give_up(); }) {}

  /// What the last life has saved. To be called once, before changed().
  [[nodiscard]] State load();
  void changed();
  /// Tries at once what has failed, in case the cause is mended.
  void retry();
  /// Why the state is not on the disk and does not get there; "" while all is well.
  [[nodiscard]] const std::string& problem() const { return problem_; }
  /// Writes the last state if anything has changed, and nothing from then on.
  /// @param last what is given up at the end is to be known again
  void finish(const State& last);
  /// Whether the last state is still on its way to the disk.
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
  bool read_only_ = false;  ///< the file holds what could not be read
  std::string problem_;
  Duration pause_ = kFirstRetry;        ///< before the next retry
  TimePoint began_ = TimePoint::min();  ///< the last write
  bool again_ = false;                  ///< it changed while it was written
  std::optional<std::string> last_;     ///< to be written when the writer is free
  bool finished_ = false;
  Timer write_;
  Timer give_up_;  ///< armed from finish() until all is written
};

}  // namespace portfwd
