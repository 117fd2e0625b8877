#include "kernel/inotify.h"

#include <unistd.h>

#include <array>
#include <cassert>
#include <cstring>
#include <vector>

namespace portfwd {

namespace {

/// The kernel pads names with zero bytes. Source: inotify(7).
std::vector<Inotify::Event> parse(std::string_view bytes) {
  std::vector<Inotify::Event> events;
  while (bytes.size() >= sizeof(inotify_event)) {
    inotify_event header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    bytes.remove_prefix(sizeof header);
    assert(header.len <= bytes.size());  // the kernel returns whole events
    const std::string_view padded = bytes.substr(0, header.len);
    events.push_back({header.wd, header.mask, padded.substr(0, padded.find('\0'))});
    bytes.remove_prefix(padded.size());
  }
  return events;
}

}  // namespace

Inotify::Inotify(EventLoop& loop, OnEvents on_events)
    : on_events_(std::move(on_events)),
      fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)),
      source_(loop, fd_.get(), *this) {
  if (!fd_.valid()) failure_ = {errno, "inotify_init1"};
}

Result<int> Inotify::add(const std::string& path, std::uint32_t mask) {
  assert(!path.empty() && mask != 0);
  if (failure_.code != 0) return std::unexpected(failure_);
  if (const auto armed = source_.watch(EPOLLIN); !armed) return std::unexpected(armed.error());
  const int watch = ::inotify_add_watch(fd_.get(), path.c_str(), mask);
  if (watch < 0) return fail("inotify_add_watch");
  return watch;
}

void Inotify::remove(int watch) noexcept {
  (void)::inotify_rm_watch(fd_.get(), watch);
}

/// Reads once: a level-triggered epoll reports the rest.
void Inotify::on_io(IoSource&, std::uint32_t) {
  alignas(inotify_event) std::array<char, 4096> buffer;
  const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
  if (got <= 0) return;
  const auto events = parse({buffer.data(), static_cast<std::size_t>(got)});
  on_events_(events);
}

}  // namespace portfwd
