// See cgroup_watch.h. Source: inotify(7), systemd.slice(5).
#include "discover/cgroup_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

namespace portfwd {
namespace {

constexpr int kDepth = 4;  // of slices below the base
constexpr std::uint32_t kEvents = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;

/// Folders in which engines make their containers' cgroups. systemd's own are slices; dockerd and
/// podman with the cgroupfs driver name theirs so.
bool holds_containers(std::string_view name) {
  return name.ends_with(".slice") || name == "docker" || name == "libpod_parent";
}

}  // namespace

std::string cgroup_base(std::string_view cgroup, std::span<const procfs::Mount> mounts) {
  const auto manager = cgroup.find("/user@");
  const auto end = cgroup.find('/', manager == cgroup.npos ? cgroup.size() : manager + 1);
  std::string_view unit = manager == cgroup.npos ? std::string_view() : cgroup.substr(0, end);
  for (const procfs::Mount& mount : mounts) {
    if (mount.type != "cgroup2") continue;
    const std::string_view root = mount.root == "/" ? std::string_view() : mount.root;
    if (unit.starts_with(root)) unit.remove_prefix(root.size());
    return mount.point + std::string(unit);
  }
  return {};
}

CgroupWatch::CgroupWatch(EventLoop& loop, std::function<void()> appeared)
    : appeared_(std::move(appeared)),
      fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      source_(loop, fd_.get(), *this) {}

Result<void> CgroupWatch::start(const std::string& base) {
  if (base.empty()) return fail("cgroup2", ENOENT);
  if (auto added = add(base); !added) return added;
  add_below(base, kDepth);
  return source_.watch(EPOLLIN);
}

Result<void> CgroupWatch::add(const std::string& folder) {
  if (folders_.size() >= kMost) return fail("inotify_add_watch", ENOSPC);
  const int watch = ::inotify_add_watch(fd_.get(), folder.c_str(), kEvents);
  if (watch < 0) return fail("inotify_add_watch");
  folders_[watch] = folder;
  return {};
}

void CgroupWatch::add_below(const std::string& folder, int depth) {
  std::error_code failed;
  if (depth == 0) return;
  std::filesystem::directory_iterator entry(folder, failed);
  for (; !failed && entry != std::filesystem::directory_iterator(); entry.increment(failed)) {
    const std::string path = entry->path().string();
    if (!holds_containers(entry->path().filename().string())) continue;
    if (add(path)) add_below(path, depth - 1);
  }
}

void CgroupWatch::on_io(IoSource&, std::uint32_t) {
  alignas(inotify_event) std::array<char, 4096> buffer;
  const ssize_t n = ::read(fd_.get(), buffer.data(), buffer.size());
  bool created = false;
  for (ssize_t at = 0; at < n;) {
    inotify_event event{};
    std::memcpy(&event, buffer.data() + at, sizeof event);
    const char* name = buffer.data() + at + sizeof event;
    at += static_cast<ssize_t>(sizeof event + event.len);
    if ((event.mask & IN_IGNORED) != 0) folders_.erase(event.wd);
    if ((event.mask & IN_Q_OVERFLOW) != 0) created = true;
    const auto folder = folders_.find(event.wd);
    if (event.len == 0 || folder == folders_.end()) continue;
    created = true;
    const std::string path = folder->second + "/" + name;
    if (holds_containers(name) && add(path)) add_below(path, kDepth);
  }
  if (created) appeared_();
}

}  // namespace portfwd
