// The file of the State, see state.h: it is read here; a FileWriter writes it.
#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "base/log.h"
#include "base/small_file.h"
#include "state/state.h"

namespace portfwd {

namespace {

namespace fs = std::filesystem;

void warn(const std::string& text) {
  log::write(log::Level::Warning, text, {{"MESSAGE_ID", std::string(log::message_id::kState)}});
}

/// Whether the file cannot be a State that is merely out of reach for now.
bool is_damaged(const Error& why) {
  switch (why.code) {
    case EISDIR:
    case ESPIPE:
    case ENODEV:
    case ENXIO:
    case EFBIG:
    case ELOOP:  // a symbolic link
      return true;
    default:
      return false;
  }
}

/// The first unused name for a backup; nothing when there are enough backups. No other program
/// makes any, so the name is still unused when the backup is made.
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
      return "free memory or descriptors";
    case ENOSPC:
    case EDQUOT:
      return "free disk space";
    case EACCES:
    case EPERM:
    case EROFS:
      return "make it and its folder accessible to this user";
    case ENOTDIR:
      return "a part of its path is a file; name another folder by STATE_DIRECTORY or "
             "XDG_STATE_HOME";
    default:
      return "fix the cause";
  }
}

Answer<State> StateFile::load() const {
  const auto text = read_small_file(path().string(), kMostBytes, Links::Refuse);
  if (!text && text.error().code == ENOENT) return {};
  if (!text && is_damaged(text.error()))
    return move_to_backup(unreadable_reason(text.error(), kMostBytes));
  if (!text) return refuse_to_load(text.error().text(), remedy_for(text.error().code));
  auto state = parse_state(*text);
  if (state) return std::move(*state);
  if (state.error().kind == Refusal::Kind::Inaccessible) {
    return refuse_to_load(state.error().text, "run that version, or move the file away");
  }
  return move_to_backup(state.error().text);
}

Answer<State> StateFile::move_to_backup(std::string_view why) const {
  const auto backup = free_backup(path());
  if (!backup) {
    warn(fmt::format(
        "cannot use {}: {}; it will be overwritten, since there are {} backups of damaged "
        "files already: remove some; saved host ports and forwards are lost",
        path().string(), why, kMostBackups));
    return {};
  }
  if (std::rename(path().c_str(), backup->c_str()) != 0) {
    return refuse_to_load(fmt::format("{}; {}", why, Error{errno, "rename"}.text()),
                          "make its folder writable, or move the file away");
  }
  warn(fmt::format("cannot use {}: {}; it is renamed to {}; saved host ports and forwards are lost",
                   path().string(), why, backup->string()));
  return {};
}

std::unexpected<Refusal> StateFile::refuse_to_load(const std::string& why,
                                                   std::string_view remedy) const {
  std::string text =
      fmt::format("cannot read {}: {}; the file is left unchanged: {}, then restart portfwd",
                  path().string(), why, remedy);
  warn(text + "; until then host ports and forwards are neither restored nor saved");
  return refuse(Refusal::Kind::Inaccessible, std::move(text));
}

}  // namespace portfwd
