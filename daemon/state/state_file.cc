#include "state/state_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <optional>

#include "base/log.h"
#include "base/small_file.h"

namespace portfwd {

namespace {

namespace fs = std::filesystem;

void warn(const std::string& text) {
  log::write(log::Level::Warning, text, {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

/// Whether what has the file's name cannot be a state that is only out of reach for now.
bool is_damaged(const UnreadableFile& why) {
  using Kind = UnreadableFile::Kind;
  const bool unreachable = why.kind == Kind::NoFolder || why.kind == Kind::Failed;
  return !unreachable || why.error.code == ELOOP;  // a link
}

/// The first name for a backup that nothing has; nothing when there are enough of them. Nobody else
/// makes any, so it is still free when it is used.
std::optional<fs::path> free_backup(const fs::path& path) {
  for (int number = 0; number < StateFile::kMostBackups; ++number) {
    fs::path backup = path.string() + ".damaged";
    if (number != 0) backup += fmt::format(".{}", number);
    std::error_code failed;
    if (fs::symlink_status(backup, failed).type() == fs::file_type::not_found) return backup;
  }
  return std::nullopt;
}

}  // namespace

std::string_view StateFile::remedy_for(int error) {
  switch (error) {
    case EMFILE:
      return "allow more descriptors (LimitNOFILE=)";
    case ENFILE:
    case ENOMEM:
      return "free what has run short";
    case ENOSPC:
    case EDQUOT:
      return "make room";
    case EACCES:
    case EPERM:
    case EROFS:
      return "make it and its folder accessible to this user";
    case ENOTDIR:
      return "a part of its path is a file; name another folder by STATE_DIRECTORY or "
             "XDG_STATE_HOME";
    default:
      return "mend the cause";
  }
}

std::expected<State, std::string> StateFile::load() const {
  const auto text = read_small_file(path().string(), kMostBytes, Links::Refuse);
  if (!text && text.error().kind == UnreadableFile::Kind::Missing) return {};
  if (!text && is_damaged(text.error())) return set_aside(text.error().text());
  if (!text) return leave(text.error().error.text(), remedy_for(text.error().error.code));
  auto state = parse_state(*text);
  if (state) return std::move(*state);
  if (state.error().newer) return leave(state.error().text, "run that one, or move the file away");
  return set_aside(state.error().text);
}

std::expected<State, std::string> StateFile::set_aside(std::string_view why) const {
  const auto backup = free_backup(path());
  if (!backup) {
    warn(
        fmt::format("{} cannot be used ({}) and will be overwritten, since there are {} backups "
                    "of damaged ones already: remove some; host ports and kept forwards are "
                    "forgotten",
                    path().string(), why, kMostBackups));
    return {};
  }
  if (std::rename(path().c_str(), backup->c_str()) != 0) {
    return leave(fmt::format("{}; {}", why, Error{errno, "rename"}.text()),
                 "make its folder writable, or move the file away");
  }
  warn(
      fmt::format("{} cannot be used ({}) and is set aside as {}: host ports and kept forwards "
                  "are forgotten",
                  path().string(), why, backup->string()));
  return {};
}

std::unexpected<std::string> StateFile::leave(const std::string& why,
                                              std::string_view remedy) const {
  std::string text = fmt::format(
      "{} cannot be read ({}) and is left as it is: {}, then restart "
      "portfwd",
      path().string(), why, remedy);
  warn(text + "; until then host ports and forwards are neither known from before nor kept");
  return std::unexpected(std::move(text));
}

}  // namespace portfwd
