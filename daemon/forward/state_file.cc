#include "forward/state_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cstdio>
#include <system_error>

#include "base/log.h"
#include "base/small_file.h"
#include "base/unique_fd.h"

namespace portfwd {

namespace {

Result<void> write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put < 0) return fail("write");
    text.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

/// What an earlier life, or somebody else, has left there is no file to write to: it can be a pipe.
Result<void> write_and_sync(const std::filesystem::path& path, std::string_view text) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail("unlink");
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid()) return fail("open");
  if (auto written = write_all(file.get(), text); !written) return written;
  if (::fsync(file.get()) != 0) return fail("fsync");
  return {};
}

}  // namespace

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

/// Source: XDG Base Directory Specification: what is missing is made, with mode 0700.
Result<void> StateFile::make_folder() const {
  std::error_code error;
  std::filesystem::create_directories(folder_.parent_path(), error);
  if (error) return fail("mkdir", error.value());
  if (::mkdir(folder_.c_str(), 0700) != 0 && errno != EEXIST) return fail("mkdir");
  return {};
}

/// The folder itself is not synced: a rename that is lost leaves the old file, which is whole too.
Result<void> StateFile::save(const State& state) const {
  if (auto made = make_folder(); !made) return made;
  const std::string beside = path().string() + ".new";
  if (auto written = write_and_sync(beside, to_text(state, kMostBytes)); !written) return written;
  if (std::rename(beside.c_str(), path().c_str()) != 0) return fail("rename");
  return {};
}

}  // namespace portfwd
