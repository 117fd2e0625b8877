#include "forward/state_keeper.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"

namespace portfwd {

void StateKeeper::changed() {
  if (finished_) return;
  if (writer_.busy()) {
    again_ = true;
  } else if (!write_.armed()) {
    write_.arm_after(kDelay);
  }
}

void StateKeeper::finish() {
  if (std::exchange(finished_, true)) return;
  const bool changed = write_.armed() || again_;
  write_.disarm();
  if (!changed && !writer_.busy()) return;
  give_up_.arm_after(kLongestEnd);
  if (!changed) return;
  if (writer_.busy()) {
    last_ = text();
  } else {
    write(text());
  }
}

void StateKeeper::write(std::string text) {
  again_ = false;
  writer_.replace(file_.path().string(), text,
                  [this](const Result<void>& saved) { on_written(saved); });
}

void StateKeeper::on_written(const Result<void>& saved) {
  if (saved) {
    failure_told_ = false;
  } else if (!std::exchange(failure_told_, true)) {
    log::write(log::Level::Warning,
               fmt::format("{} can't be written ({}): host ports and forwards are not remembered; "
                           "make room, or the folder writable",
                           file_.path().string(), saved.error().text()),
               {{"MESSAGE_ID", std::string(log::message_id::kState)}});
  }
  if (last_) return write(*std::exchange(last_, {}));
  give_up_.disarm();
  if (again_ && !finished_) write_.arm_after(kDelay);
}

void StateKeeper::give_up() {
  last_.reset();
  log::write(log::Level::Warning,
             fmt::format("{} is not written in time: what changed last is not remembered",
                         file_.path().string()),
             {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

}  // namespace portfwd
