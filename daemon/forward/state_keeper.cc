#include "forward/state_keeper.h"

#include <fmt/format.h>

#include "base/log.h"

namespace portfwd {

void StateKeeper::write() {
  write_.disarm();
  const auto saved = file_.save(read_());
  if (saved) {
    failure_told_ = false;
    return;
  }
  if (std::exchange(failure_told_, true)) return;
  log::write(log::Level::Warning,
             fmt::format("{} can't be written ({}): host ports and forwards are not remembered; "
                         "make room, or the folder writable",
                         file_.path().string(), saved.error().text()),
             {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

}  // namespace portfwd
