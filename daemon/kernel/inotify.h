// Changes to files and folders, as inotify(7) reports them: parsed, and delivered from the loop.
// Owned by the object that watches. The meaning of the watched paths is not known here.
//
// An event with IN_Q_OVERFLOW stands for any number of lost events.
#pragma once

#include <sys/inotify.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace portfwd {

class Inotify final : private IoHandler {
 public:
  struct Event {
    int watch = -1;          ///< as add() returned it; -1 with IN_Q_OVERFLOW
    std::uint32_t mask = 0;  ///< IN_...
    std::string_view name;   ///< name of the entry of a folder, or ""; valid during the callback
  };
  /// Receives the events of one read, at least one. May add and remove watches; must not destroy
  /// the Inotify.
  using OnEvents = std::move_only_function<void(std::span<const Event> events)>;

  Inotify(EventLoop& loop, OnEvents on_events);
  Inotify(const Inotify&) = delete;
  Inotify& operator=(const Inotify&) = delete;

  /// Watches `path` for the events of `mask`, or replaces the mask of a path that is already
  /// watched.
  /// @return the watch descriptor, or the error of inotify_init1(2), inotify_add_watch(2) or
  /// epoll_ctl(2)
  [[nodiscard]] Result<int> add(const std::string& path, std::uint32_t mask);
  /// Does nothing when the kernel has already removed the watch, as it does when the folder is
  /// deleted.
  void remove(int watch) noexcept;

 private:
  void on_io(IoSource& source, std::uint32_t events) override;

  OnEvents on_events_;
  UniqueFd fd_;
  Error failure_{};  ///< of inotify_init1(2); code 0: none
  IoSource source_;
};

}  // namespace portfwd
