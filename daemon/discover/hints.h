// Event sources that hint at a new container before the next scan would find it: exec(2) of any
// process, a new cgroup, a new mount of a network namespace. A hint says that something may be new,
// never what; Discovery looks. Each is owned by Discovery, and none is required.
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

// Turns the kernel's exec events into hints for Discovery, at a price that stays small: above some
// 20 a second they are taken in lots, above some 200 a second the socket is closed for a while.
// Owned by Discovery. It knows pids and nothing of containers.
class ExecHints final : private IoHandler {
 public:
  /// @param execs pids that have just called exec
  /// @param lost events were dropped: look at everything
  using Callback = std::function<void(std::span<const pid_t> execs, bool lost)>;
  ExecHints(EventLoop& loop, Callback callback);

  /// Joins; where the kernel does not grant it, nothing will come, and state() says why.
  void start();
  /// Events are known to come, as one has come, and it is no pause.
  [[nodiscard]] bool come() const noexcept { return granted_ && listening_.has_value(); }
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
  void take();
  void leave(Duration pause);
  void count(std::size_t events);

  EventLoop& loop_;
  Callback callback_;
  std::optional<Listening> listening_;
  Error refused_{};
  bool granted_ = false;
  TimePoint window_{};         ///< start of the second that is being counted
  std::size_t in_window_ = 0;  ///< events of that second
  Timer later_;                ///< to take a lot, or to join again
};

// inotify on the cgroup folders in which this user's containers appear: an engine makes the folder
// (libpod-ID.scope) before the container's program runs. Owned by Discovery. A folder's name means
// nothing here: it is a hint to look at /proc.
/// The folder below which this process's user finds its units: that of user@UID.service if the
/// process is in one, else the root of the unified hierarchy; "" when it is not mounted.
/// @param cgroup the process's path in the unified hierarchy
[[nodiscard]] std::string cgroup_base(std::string_view cgroup,
                                      std::span<const procfs::Mount> mounts);

class CgroupWatch final {
 public:
  static constexpr std::size_t kMost = 64;  ///< watches; of inotify(7)'s 8192 and more per user

  /// @param appeared called from the loop, once for all folders of a batch
  CgroupWatch(EventLoop& loop, std::function<void()> appeared);

  /// Watches `base` and the slices below it. @return inotify's errno, ENOENT for an empty base.
  Result<void> start(const std::string& base);
  [[nodiscard]] std::size_t watches() const noexcept { return folders_.size(); }

 private:
  void on_events(std::span<const Inotify::Event> events);
  Result<void> add(const std::string& folder);
  void add_below(const std::string& folder, int depth);

  std::function<void()> appeared_;
  std::map<int, std::string> folders_;  ///< by watch descriptor
  Inotify inotify_;
};

// Named network namespaces, as `ip netns add NAME` makes them: nsfs mounts in our mount namespace.
// An epoll watch on mountinfo tells when some came or went. Owned by Discovery.
class MountWatch final : private IoHandler {
 public:
  using Paths = std::map<std::uint64_t, std::string>;  ///< inode of the namespace -> mount point
  /// @param changed called from the loop when paths() may not be what it was: an attach reads them
  /// by itself, and must be told of what came and went between two readings
  MountWatch(EventLoop& loop, const ProcDir& proc, std::function<void()> changed);

  /// Reads them and watches from now on.
  Result<void> start();
  [[nodiscard]] const Paths& paths() const noexcept { return paths_; }
  [[nodiscard]] bool watching() const noexcept { return source_.mask() != 0 || later_.armed(); }

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  [[nodiscard]] Result<Paths> read() const;
  void refresh();

  std::string file_;
  std::function<void()> changed_;
  Paths paths_;
  UniqueFd fd_;
  IoSource source_;
  Timer later_;
};

}  // namespace portfwd
