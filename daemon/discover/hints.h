// Event sources that hint at a new container before the next scan would find it: exec(2) of any
// process, a new cgroup, a new mount of a network namespace. A hint says that something may be new,
// never what: Discovery looks then. Discovery owns one of each, and requires none.
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

// Exec events of the kernel, at a bounded price: above 20 a second they are read in batches, above
// 200 a second the socket is closed for a while. It knows pids and nothing of containers.
class ExecHints final : private IoHandler {
 public:
  /// @param execs pids that have just called exec
  /// @param lost events were dropped: all processes must be looked at
  using Callback = std::move_only_function<void(std::span<const pid_t> execs, bool lost)>;
  ExecHints(EventLoop& loop, Callback callback);

  /// Subscribes. Where the kernel does not permit it no event follows, and state() says why.
  void start();
  /// Whether events are known to arrive: one has, and there is no pause.
  [[nodiscard]] bool are_granted() const noexcept { return granted_ && listening_.has_value(); }
  /// "yes", "none yet", "paused: ...", or "no: ..." with the reason, for `status`.
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
  TimePoint window_{};         ///< start of the second that is being counted
  std::size_t in_window_ = 0;  ///< events of that second
  Timer later_;                ///< to read a batch, or to subscribe again
};

/// The folder below which this process's user finds its units: that of user@UID.service if the
/// process is in one, else the root of the unified hierarchy; "" when it is not mounted.
/// @param cgroup the process's path in the unified hierarchy
[[nodiscard]] std::string cgroup_base(std::string_view cgroup,
                                      std::span<const procfs::Mount> mounts);

// inotify on the cgroup folders in which this user's containers appear: an engine makes the folder
// (libpod-ID.scope) before the container's program runs. The names of folders are not interpreted.
class CgroupWatch final {
 public:
  static constexpr std::size_t kMost = 64;  ///< watches; of inotify(7)'s 8192 and more per user

  /// @param on_change called from the loop, once for all folders of a batch
  CgroupWatch(EventLoop& loop, std::move_only_function<void()> on_change);

  /// Watches `base` and the slices below it. @return inotify's errno, ENOENT for an empty base.
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

// Named network namespaces, as `ip netns add NAME` makes them: nsfs mounts in our mount namespace.
// An epoll watch on mountinfo reports changes.
class MountWatch final : private IoHandler {
 public:
  using Paths = std::map<std::uint64_t, std::string>;  ///< inode of the namespace -> mount point
  /// @param on_change called from the loop after each reading: requests to attach read the mounts
  /// by themselves, so the Registry may know other paths than paths() had before
  MountWatch(EventLoop& loop, const ProcDir& proc, std::move_only_function<void()> on_change);

  /// Reads them and watches from now on.
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
