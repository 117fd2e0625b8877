// Named network namespaces, as `ip netns add NAME` makes them: nsfs mounts in our mount namespace.
// An epoll watch on mountinfo tells when some came or went. Owned by Discovery.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "base/unique_fd.h"
#include "event/event_loop.h"
#include "kernel/proc_dir.h"

namespace portfwd {

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
