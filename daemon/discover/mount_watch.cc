// See mount_watch.h.
#include "discover/mount_watch.h"

#include <fcntl.h>

#include "kernel/procfs.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

constexpr Duration kTogether = 10ms;  // a container's start mounts a dozen file systems
constexpr std::size_t kLimit = 1 << 20;

}  // namespace

MountWatch::MountWatch(EventLoop& loop, const ProcDir& proc, std::function<void()> changed)
    : file_(proc.path() + "/self/mountinfo"),
      changed_(std::move(changed)),
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
  later_.arm_after(kTogether);
}

void MountWatch::refresh() {
  (void)source_.watch(EPOLLPRI);  // before reading, so that no change falls in between
  auto now = read();
  if (!now) return;
  paths_ = std::move(*now);
  changed_();
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
