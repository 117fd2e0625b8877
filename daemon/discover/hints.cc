// See hints.h.

#include "discover/hints.h"

#include <fcntl.h>

#include <filesystem>

#include "kernel/procfs.h"

namespace portfwd {

// ---- exec events

// On a desktop a few programs start in a second. A compilation starts hundreds; then a scan every
// 100 ms costs less than a wake-up for each program.
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kMostUnbatched = 20;  // events a second; more are read in batches
constexpr std::size_t kMost = 200;          // events a second; more cause a pause
constexpr Duration kBatchInterval = 20ms;
constexpr Duration kPause = 10s;
constexpr std::size_t kDatagrams = 256;

}  // namespace

ExecHints::ExecHints(EventLoop& loop, Callback callback)
    : loop_(loop),
      callback_(std::move(callback)),
      later_(loop, [this] { listening_ ? read_events() : start(); }) {}

void ExecHints::start() {
  auto connector = ProcConnector::open();
  if (!connector) {
    refused_ = connector.error();
    return;
  }
  IoHandler& handler = *this;
  listening_.emplace(loop_, std::move(*connector), handler);
  if (auto watched = listening_->source.watch(EPOLLIN); !watched) {
    refused_ = watched.error();
    listening_.reset();
  }
}

void ExecHints::on_io(IoSource&, std::uint32_t) {
  read_events();
}

void ExecHints::read_events() {
  const ProcConnector::Batch batch = listening_->connector.drain(kDatagrams);
  granted_ = granted_ || !batch.execs.empty();
  count_events(batch.events);
  if (in_window_ > kMost || batch.lost) {
    pause(kPause);
  } else if (in_window_ > kMostUnbatched) {
    listening_->source.disarm();
    later_.arm_after(kBatchInterval);
  } else if (auto watched = listening_->source.watch(EPOLLIN); !watched) {
    pause(kPause);
  }
  if (!batch.execs.empty() || batch.lost) callback_(batch.execs, batch.lost);
}

void ExecHints::count_events(std::size_t events) {
  const TimePoint now = loop_.now();
  if (now - window_ >= 1s) {
    window_ = now;
    in_window_ = 0;
  }
  in_window_ += events;
}

void ExecHints::pause(Duration pause) {
  listening_.reset();
  later_.arm_after(pause);
}

std::string ExecHints::state() const {
  if (refused_.code == EPERM) return "no: not permitted; users may receive them since Linux 6.6";
  if (refused_.code != 0) return "no: " + refused_.text();
  if (!granted_) return "no: none received so far; they need the initial user and pid namespaces";
  return listening_ ? "yes" : "paused: too many programs start";
}

// ---- cgroups

// Source: inotify(7), systemd.slice(5).
namespace {

constexpr int kDepth = 4;  // of slices below the base
constexpr std::uint32_t kEvents = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;

/// Whether engines make their containers' cgroups in a folder of that name: a slice of systemd, or
/// the parent that dockerd and podman use with the cgroupfs driver.
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

CgroupWatch::CgroupWatch(EventLoop& loop, std::move_only_function<void()> on_change)
    : on_change_(std::move(on_change)),
      inotify_(loop, [this](std::span<const Inotify::Event> events) { on_events(events); }) {}

Result<void> CgroupWatch::start(const std::string& base) {
  if (base.empty()) return fail("cgroup2", ENOENT);
  if (auto added = add(base); !added) return added;
  add_below(base, kDepth);
  return {};
}

Result<void> CgroupWatch::add(const std::string& folder) {
  if (folders_.size() >= kMost) return fail("inotify_add_watch", ENOSPC);
  const auto watch = inotify_.add(folder, kEvents);
  if (!watch) return std::unexpected(watch.error());
  folders_[*watch] = folder;
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

void CgroupWatch::on_events(std::span<const Inotify::Event> events) {
  bool created = false;
  for (const Inotify::Event& event : events) {
    if ((event.mask & IN_IGNORED) != 0) folders_.erase(event.watch);
    if ((event.mask & IN_Q_OVERFLOW) != 0) created = true;
    const auto folder = folders_.find(event.watch);
    if (event.name.empty() || folder == folders_.end()) continue;
    created = true;
    const std::string path = folder->second + "/" + std::string(event.name);
    if (holds_containers(event.name) && add(path)) add_below(path, kDepth);
  }
  if (created) on_change_();
}

// ---- mounts

namespace {

using namespace std::chrono_literals;

constexpr Duration kMountBatchDelay = 10ms;  // the start of a container mounts a dozen file systems
constexpr std::size_t kLimit = 1 << 20;

}  // namespace

MountWatch::MountWatch(EventLoop& loop, const ProcDir& proc,
                       std::move_only_function<void()> on_change)
    : file_(proc.path() + "/self/mountinfo"),
      on_change_(std::move(on_change)),
      fd_(::open(file_.c_str(), O_RDONLY | O_CLOEXEC)),
      source_(loop, fd_.get(), *this),
      later_(loop, [this] { refresh(); }) {}

Result<void> MountWatch::start() {
  auto watched = source_.watch(EPOLLPRI);  // proc(5): "POLLPRI and POLLERR" when it changed
  paths_ = read().value_or(Paths());
  return watched;
}

void MountWatch::on_io(IoSource&, std::uint32_t) {
  source_.disarm();  // EPOLLERR cannot be masked
  later_.arm_after(kMountBatchDelay);
}

void MountWatch::refresh() {
  (void)source_.watch(EPOLLPRI);  // before reading, so that no change is missed
  auto now = read();
  if (!now) return;
  paths_ = std::move(*now);
  on_change_();
}

Result<MountWatch::Paths> MountWatch::read() const {
  const auto text = read_text(AT_FDCWD, file_.c_str(), kLimit);
  if (!text) return std::unexpected(text.error());
  Paths paths;
  for (const procfs::Mount& mount : procfs::parse_mountinfo(*text)) {
    if (mount.type != "nsfs") continue;
    if (const auto inode = procfs::parse_netns_link(mount.root)) paths.emplace(*inode, mount.point);
  }
  return paths;
}

}  // namespace portfwd
