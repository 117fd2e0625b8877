// inotify on the cgroup folders in which this user's containers appear: an engine makes the folder
// (libpod-ID.scope) before the container's program runs. Owned by Discovery. A folder's name means
// nothing here: it is a hint to look at /proc.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "kernel/proc_dir.h"
#include "kernel/procfs.h"

namespace portfwd {

/// The folder below which this process's user finds its units: that of user@UID.service if the
/// process is in one, else the root of the unified hierarchy; "" when it is not mounted.
/// @param cgroup the process's path in the unified hierarchy
[[nodiscard]] std::string cgroup_base(std::string_view cgroup,
                                      std::span<const procfs::Mount> mounts);

class CgroupWatch final : private IoHandler {
 public:
  static constexpr std::size_t kMost = 64;  ///< watches; of inotify(7)'s 8192 and more per user

  /// @param appeared called from the loop, once for all folders of a batch
  CgroupWatch(EventLoop& loop, std::function<void()> appeared);

  /// Watches `base` and the slices below it. @return inotify's errno, ENOENT for an empty base.
  Result<void> start(const std::string& base);
  [[nodiscard]] std::size_t watches() const noexcept { return folders_.size(); }

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  Result<void> add(const std::string& folder);
  void add_below(const std::string& folder, int depth);

  std::function<void()> appeared_;
  std::map<int, std::string> folders_;  ///< by watch descriptor
  UniqueFd fd_;
  IoSource source_;
};

}  // namespace portfwd
