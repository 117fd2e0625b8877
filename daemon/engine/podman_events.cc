// See podman_events.h. Source: inotify(7), podman-events(1).
#include "engine/podman_events.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <array>

#include "engine/answers.h"

namespace portfwd {
namespace {

constexpr std::size_t kLongestLine = 64UL << 10;

}  // namespace

PodmanEvents::PodmanEvents(EventLoop& loop, OnEvent on_event)
    : on_event_(std::move(on_event)),
      inotify_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      source_(loop, inotify_.get(), *this) {}

Result<void> PodmanEvents::start(const std::string& path) {
  file_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file_.valid()) return fail("open");
  struct stat about {};
  if (::fstat(file_.get(), &about) != 0) return fail("fstat");
  if (!S_ISREG(about.st_mode)) return fail("open", EINVAL);
  if (::lseek(file_.get(), 0, SEEK_END) < 0) return fail("lseek");
  if (::inotify_add_watch(inotify_.get(), path.c_str(), IN_MODIFY) < 0) {
    return fail("inotify_add_watch");
  }
  return source_.watch(EPOLLIN);
}

void PodmanEvents::on_io(IoSource&, std::uint32_t) {
  alignas(inotify_event) std::array<char, 4096> told;
  (void)!::read(inotify_.get(), told.data(), told.size());  // what it says is known: look
  read_new();
}

/// podman may begin its file anew, shorter. No more is read than was there at first: for what is
/// written meanwhile inotify has another event.
void PodmanEvents::read_new() {
  struct stat now {};
  off_t at = ::lseek(file_.get(), 0, SEEK_CUR);
  if (at < 0 || ::fstat(file_.get(), &now) != 0) return;
  if (now.st_size < at) {
    at = ::lseek(file_.get(), 0, SEEK_SET);
    unread_.clear();
  }
  std::array<char, 16384> chunk;
  while (at < now.st_size) {
    const ssize_t got = ::read(file_.get(), chunk.data(), chunk.size());
    if (got <= 0) return;
    at += got;
    unread_.append(chunk.data(), static_cast<std::size_t>(got));
    take_lines();
  }
}

void PodmanEvents::take_lines() {
  std::size_t begin = 0;
  for (auto end = unread_.find('\n'); end != unread_.npos;
       begin = end + 1, end = unread_.find('\n', begin)) {
    const auto event = parse_container_event(std::string_view(unread_).substr(begin, end - begin));
    if (event) on_event_(*event);
  }
  unread_.erase(0, begin);
  if (unread_.size() > kLongestLine) unread_.clear();  // no line of podman's
}

}  // namespace portfwd
