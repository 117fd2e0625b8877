// What engines say about their containers as they change: docker's stream of events, and the folder
// in which podman leaves a file for each.
#pragma once

#include <functional>
#include <string>

#include "base/unique_fd.h"
#include "engine/answers.h"
#include "engine/http_client.h"
#include "event/event_loop.h"
#include "kernel/inotify.h"

namespace portfwd {

// A Docker engine's stream of events, kept open while it has containers that concern us: renames,
// and what is made, as it may be in the place of another. What else happens to them is seen
// without asking. Owned by EngineFacts. The stream ends when the engine is restarted; then it is
// opened again, later each time that it does not last.
class DockerEvents final {
 public:
  using OnEvent = std::function<void(const ContainerEvent&)>;

  /// @param on_missed renames may have been missed: the stream is open again after it was not
  DockerEvents(EventLoop& loop, HttpClient& http, std::string socket, OnEvent on_event,
               std::function<void()> on_missed);

  [[nodiscard]] bool is_open() const noexcept { return open_; }

 private:
  void open();
  void on_open();
  void on_line(std::string_view line);
  void on_end(const Error& why);

  EventLoop& loop_;
  HttpClient& http_;
  const std::string socket_;
  OnEvent on_event_;
  std::function<void()> on_missed_;
  Duration pause_;  ///< before the next attempt
  TimePoint opened_{};
  bool open_ = false;
  bool was_open_ = false;
  HttpCall stream_;
  Timer retry_;
};

// podman's own file of events, where it writes one ($XDG_RUNTIME_DIR/libpod/tmp/events/events.log):
// new lines are read when inotify tells of them, so nothing of podman runs on our account. Where
// podman writes to the journal there is no such file, and nothing to read. Owned by EngineFacts.
class PodmanEvents final {
 public:
  using OnEvent = std::function<void(const ContainerEvent&)>;
  PodmanEvents(EventLoop& loop, OnEvent on_event);

  /// Begins at the file's end. @return ENOENT and others when there is no such file
  Result<void> start(const std::string& path);

 private:
  void read_new();
  void take_lines();

  OnEvent on_event_;
  std::string unread_;  ///< the beginning of a line
  UniqueFd file_;
  Inotify inotify_;
};

}  // namespace portfwd
