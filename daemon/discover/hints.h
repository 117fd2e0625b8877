// Event sources that indicate a new container before the next scan would find it: exec(2) of any
// process, a new cgroup, a new mount of a network namespace. They do not identify the container;
// Discovery checks or scans processes then. Discovery owns one of each and works without them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "kernel/inotify.h"
#include "kernel/proc_connector.h"
#include "kernel/procfs.h"

namespace portfwd {

// Exec events of the kernel, at limited cost: above 20 a second they are read in batches, above 200
// a second the socket is closed for 10 s. It reports pids and has no knowledge of containers.
class ExecHints final : private IoHandler {
 public:
  /// @param execs pids that have just called exec
  /// @param lost the kernel dropped events: a scan must follow
  using Callback = std::move_only_function<void(std::span<const pid_t> execs, bool lost)>;
  ExecHints(EventLoop& loop, Callback callback);

  /// Subscribe. If the kernel does not permit it no event follows, and state() has the reason.
  void start();
  /// Whether events can be relied on: one has arrived, and the socket is not closed for a pause.
  [[nodiscard]] bool are_granted() const noexcept { return granted_ && listening_.has_value(); }
  /// "yes", "paused: ...", or "no: ..." with the reason, for `status`.
  [[nodiscard]] std::string state() const;

 private:
  struct Listening {
    Listening(EventLoop& loop, ProcConnector the_connector, IoHandler& handler)
        : connector(std::move(the_connector)), source(loop, connector.fd(), handler) {}
    ProcConnector connector;
    IoSource source;
  };
  void on_io(IoSource& source, std::uint32_t events) override;
  void read_events();
  void pause(Duration pause);
  void count_events(std::size_t events);

  EventLoop& loop_;
  Callback callback_;
  std::optional<Listening> listening_;
  Error refused_{};
  bool granted_ = false;
  TimePoint window_{};         ///< start of the second in which events are counted
  std::size_t in_window_ = 0;  ///< events in that second
  Timer later_;                ///< to read a batch, or to subscribe again
};

/// The cgroup folder of the user's systemd manager (user@UID.service) if the process runs in one,
/// else the root of the unified hierarchy; "" if that is not mounted.
/// @param cgroup the process's path in the unified hierarchy
[[nodiscard]] std::string cgroup_base(std::string_view cgroup,
                                      std::span<const procfs::Mount> mounts);

// inotify watches on the cgroup folders in which engines make the user's containers: an engine
// makes the folder (libpod-ID.scope) before the container's program runs. No container is derived
// from the names of folders.
class CgroupWatch final {
 public:
  static constexpr std::size_t kMost = 64;  ///< watches; inotify(7) permits 8192 or more per user

  /// @param on_change called from the loop, once for each batch of new folders
  CgroupWatch(EventLoop& loop, std::move_only_function<void()> on_change);

  /// Watch `base` and the slices below it. @return inotify's errno, or ENOENT for an empty base
  Result<void> start(const std::string& base);
  [[nodiscard]] std::size_t watches() const noexcept { return folders_.size(); }

 private:
  void on_events(std::span<const Inotify::Event> events);
  Result<void> add(const std::string& folder);
  void add_below(const std::string& folder, int depth);

  std::move_only_function<void()> on_change_;
  std::map<int, std::string> folders_;  ///< by watch descriptor
  Inotify inotify_;
};

// Named network namespaces: nsfs mounts in the daemon's mount namespace, as made by `ip netns add
// NAME`. Changes are reported by an epoll watch on /proc/self/mountinfo.
class MountWatch final : private IoHandler {
 public:
  using Paths = std::map<std::uint64_t, std::string>;  ///< inode of the namespace -> mount point
  /// @param on_change called from the loop after each reading, even if paths() is the same:
  /// AttachRequests reads the mounts as well, so the Registry may have other paths
  MountWatch(EventLoop& loop, const ProcDir& proc, std::move_only_function<void()> on_change);

  /// Read the mounts and begin to watch.
  Result<void> start();
  [[nodiscard]] const Paths& paths() const noexcept { return paths_; }
  [[nodiscard]] bool watching() const noexcept { return source_.mask() != 0 || later_.armed(); }

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  [[nodiscard]] Result<Paths> read() const;
  void refresh();

  std::string file_;
  std::move_only_function<void()> on_change_;
  Paths paths_;
  UniqueFd fd_;
  IoSource source_;
  Timer later_;
};

}  // namespace portfwd
