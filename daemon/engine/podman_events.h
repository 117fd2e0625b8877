// podman's own file of events, where it writes one ($XDG_RUNTIME_DIR/libpod/tmp/events/events.log):
// new lines are read when inotify tells of them, so nothing of podman runs on our account. Where
// podman writes to the journal there is no such file, and nothing to read. Owned by EngineFacts.
#pragma once

#include <functional>
#include <string>

#include "base/unique_fd.h"
#include "engine/container_facts.h"
#include "event/event_loop.h"

namespace portfwd {

class PodmanEvents final : private IoHandler {
 public:
  using OnEvent = std::function<void(const ContainerEvent&)>;
  PodmanEvents(EventLoop& loop, OnEvent on_event);

  /// Begins at the file's end. @return ENOENT and others when there is no such file
  Result<void> start(const std::string& path);

 private:
  void on_io(IoSource& source, std::uint32_t events) override;
  void read_new();
  void take_lines();

  OnEvent on_event_;
  std::string unread_;  ///< the beginning of a line
  UniqueFd file_;
  UniqueFd inotify_;
  IoSource source_;
};

}  // namespace portfwd
