#include "forward/state_file.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/log.h"
#include "base/small_file.h"

namespace portfwd {

State StateFile::load() const {
  const auto text = read_small_file(path().string(), kMostBytes, Links::Refuse);
  if (!text && text.error().kind == UnreadableFile::Kind::Missing) return {};
  if (!text) {
    set_aside(text.error().text());
    return {};
  }
  auto state = parse_state(*text);
  if (state) return std::move(*state);
  set_aside(state.error());
  return {};
}

void StateFile::set_aside(std::string_view why) const {
  const std::string aside = path().string() + ".damaged";
  const bool moved = std::rename(path().c_str(), aside.c_str()) == 0;
  log::write(
      log::Level::Warning,
      fmt::format("{} can't be used ({}) and {}: host ports and kept forwards are forgotten",
                  path().string(), why, moved ? "is set aside as " + aside : "will be overwritten"),
      {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

}  // namespace portfwd
