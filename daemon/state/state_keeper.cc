#include "state/state_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace portfwd {

State StateKeeper::load() {
  auto loaded = file_.load();
  if (loaded) return std::move(*loaded);
  read_only_ = true;
  problem_ = std::move(loaded.error().text);
  return {};
}

void StateKeeper::changed() {
  if (finished_ || read_only_) return;
  if (writer_.busy()) {
    again_ = true;
  } else if (!write_.armed()) {
    schedule();
  }
}

void StateKeeper::schedule() {
  write_.arm_at(std::max(loop_.now() + kSoon, began_ + kDelay));
}

void StateKeeper::retry() {
  if (problem_.empty() || !write_.armed()) return;
  pause_ = kFirstRetry;
  write_.disarm();
  write(text_of(read_()));
}

void StateKeeper::finish(const State& last) {
  if (std::exchange(finished_, true)) return;
  const bool changed = write_.armed() || again_;
  write_.disarm();
  if (!changed && !writer_.busy()) return;
  give_up_.arm_after(kLongestEnd);
  if (!changed) return;
  if (writer_.busy()) {
    last_ = text_of(last);
  } else {
    write(text_of(last));
  }
}

void StateKeeper::write(const std::string& text) {
  again_ = false;
  began_ = loop_.now();
  writer_.replace(file_.path().string(), text,
                  [this](const Result<void>& saved) { on_written(saved); });
}

void StateKeeper::on_written(const Result<void>& saved) {
  if (saved) {
    if (!std::exchange(problem_, {}).empty()) {
      log::write(log::Level::Notice, fmt::format("{} can be written again", file_.path().string()),
                 {{"MESSAGE_ID", std::string(log::message_id::kState)}});
    }
    pause_ = kFirstRetry;
  } else {
    note_failure(saved.error());
  }
  if (last_) return write(*std::exchange(last_, {}));
  give_up_.disarm();
  if (finished_) return;
  if (!saved) {
    write_.arm_after(pause_);
    pause_ = std::min(pause_ * 2, kLongestRetry);
  } else if (again_) {
    schedule();
  }
}

/// A failure is logged once until writing works again, though the cause may change; `status` shows
/// the last cause.
void StateKeeper::note_failure(const Error& error) {
  const bool news = problem_.empty();
  problem_ = fmt::format("cannot write {}: {}; {}", file_.path().string(), error.text(),
                         StateFile::remedy_for(error.code));
  if (!news) return;
  log::write(log::Level::Warning,
             problem_ +
                 "; until then host ports and forwards are not saved for the next start; portfwd "
                 "retries automatically",
             {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

void StateKeeper::give_up() {
  last_.reset();
  log::write(
      log::Level::Warning,
      fmt::format("cannot write {} in time: the last changes are lost", file_.path().string()),
      {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

}  // namespace portfwd
