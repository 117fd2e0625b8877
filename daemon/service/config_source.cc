#include "service/config_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <deque>

#include "base/log.h"

namespace portfwd {

namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_TO |
                                  IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr Duration kSettle = std::chrono::milliseconds(100);  // for several files saved at once

/// The folder itself, or the nearest existing one above it.
fs::path nearest_folder(fs::path folder) {
  std::error_code ignored;
  while (!fs::is_directory(folder, ignored) && folder.has_relative_path()) {
    folder = folder.parent_path();
  }
  return folder.empty() ? "." : folder;
}

/// Adds the folders of all symbolic links that lead to `path`: each link can be switched to another
/// target without an event in the folder that it leads to.
void add_folders_of_links(const fs::path& path, std::set<std::string>& out) {
  constexpr int kMostLinks = 40;  // as the kernel: path_resolution(7)
  std::error_code failed;
  std::deque<fs::path> rest(path.begin(), path.end());
  fs::path at;
  for (int links = 0; !rest.empty() && links < kMostLinks;) {
    const fs::path next = at / rest.front();
    rest.pop_front();
    const fs::path target = fs::read_symlink(next, failed);
    if (failed) {
      at = next;
      continue;
    }
    ++links;
    out.insert(at.empty() ? "." : at.string());
    rest.insert(rest.begin(), target.begin(), target.end());
    if (target.is_absolute()) at.clear();
  }
}

}  // namespace

ConfigSource::ConfigSource(EventLoop& loop, const Options& options)
    : options_(options),
      read_(versions()),
      inotify_(loop,
               [this](std::span<const Inotify::Event>) {
                 if (!settled_.armed()) settled_.arm_after(kSettle);
               }),
      settled_(loop, [this] { check_files(); }) {
  (void)read_settings(options_, users_);  // resolves the users, since later lookups must not block
  users_.stop_queries();
}

std::expected<Settings, Mistakes> ConfigSource::read() {
  read_ = versions();
  return read_settings(options_, users_);
}

void ConfigSource::watch(std::function<void()> changed) {
  changed_ = std::move(changed);
  if (const auto followed = watch_folders(); !followed) {
    log::warning(
        "cannot watch the configuration for changes: {}; reload it by SIGHUP or the D-Bus method "
        "Reload",
        followed.error().text());
  }
}

std::vector<ConfigSource::Version> ConfigSource::versions() const {
  std::vector<Version> out;
  for (const fs::path& file : config_files(options_.config, options_.config_required)) {
    Version& version = out.emplace_back(file.string());
    struct stat st {};
    if (::stat(version.path.c_str(), &st) != 0) continue;
    version.device = st.st_dev;
    version.inode = st.st_ino;
    version.size = st.st_size;
    version.modified_ns = std::int64_t{st.st_mtim.tv_sec} * 1'000'000'000 + st.st_mtim.tv_nsec;
  }
  return out;
}

/// The folders of the files and, where files or their folders are symbolic links, the folders of
/// the links and of their targets.
std::set<std::string> ConfigSource::folders() const {
  const fs::path home = options_.config.parent_path();
  std::set<std::string> out{nearest_folder(home).string()};
  std::error_code failed;
  if (fs::is_directory(home / "config.d", failed)) out.insert((home / "config.d").string());
  add_folders_of_links(home / "config.d", out);
  for (const fs::path& file : config_files(options_.config, options_.config_required)) {
    add_folders_of_links(file, out);
    const fs::path real = fs::canonical(file, failed);
    if (!failed) out.insert(real.parent_path().string());
  }
  return out;
}

/// Watches the folders, again until none was added while they were listed. Fails if no folder can
/// be watched.
Result<void> ConfigSource::watch_folders() {
  Error last{ENOENT, "inotify_add_watch"};
  for (std::set<std::string> wanted = folders();;) {
    std::map<std::string, int> watches;
    for (const std::string& folder : wanted) {
      const auto watch = inotify_.add(folder, kEvents);
      if (watch) {
        watches[folder] = *watch;
      } else {
        last = watch.error();
      }
    }
    for (const auto& [folder, watch] : watches_) {
      const bool kept =
          std::ranges::any_of(watches, [&](const auto& w) { return w.second == watch; });
      if (!kept) inotify_.remove(watch);
    }
    watches_ = std::move(watches);
    std::set<std::string> now = folders();
    if (now == wanted) {
      if (watches_.empty()) return std::unexpected(last);
      return {};
    }
    wanted = std::move(now);
  }
}

void ConfigSource::check_files() {
  (void)watch_folders();
  if (versions() != read_) changed_();
}

}  // namespace portfwd
