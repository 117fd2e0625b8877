// What engines report of their containers without a request: docker's stream of events, and the
// files in which podman records events and names.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "engine/answers.h"
#include "engine/http_client.h"
#include "event/event_loop.h"
#include "kernel/inotify.h"

namespace portfwd {

// A Docker engine's stream of events, open while the engine has containers of concern: renames, and
// new containers, which may replace others. Everything else is found without the engine. Owned by
// EngineFacts. The stream ends when the engine is restarted; it is reopened, with a pause that
// grows while it does not last.
class DockerEvents final {
 public:
  using OnEvent = std::move_only_function<void(const ContainerEvent&)>;

  /// @param on_missed called when events may have been missed: the stream has been reopened
  DockerEvents(EventLoop& loop, HttpClient& http, std::string socket, OnEvent on_event,
               std::move_only_function<void()> on_missed);

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
  std::move_only_function<void()> on_missed_;
  Duration pause_;  ///< before the next attempt
  TimePoint opened_{};
  bool open_ = false;
  bool was_open_ = false;
  HttpCall stream_;
  Timer retry_;
};

// podman's own file of events, where it writes one ($XDG_RUNTIME_DIR/libpod/tmp/events/events.log).
// New lines are read when inotify reports them, so no program of podman is run. Where podman writes
// to the journal there is no such file, and nothing to read. Owned by EngineFacts.
class PodmanEvents final {
 public:
  using OnEvent = std::move_only_function<void(const ContainerEvent&)>;
  PodmanEvents(EventLoop& loop, OnEvent on_event);

  /// Begins at the file's end. @return ENOENT and others when there is no such file
  Result<void> start(const std::string& path);

 private:
  void read_new();
  void parse_lines();

  OnEvent on_event_;
  std::string unread_;  ///< the beginning of a line
  UniqueFd file_;
  Inotify inotify_;
};

// The names and images of this user's podman containers, from the file in which podman's storage
// keeps them (STORAGE/DRIVER-containers/containers.json; a user who has changed drivers has
// several). podman replaces it whenever a container is made, renamed or removed, so inotify reports
// when to read it. No program of podman is run, wherever it writes its events to. Owned by
// EngineFacts.
class PodmanStore final {
 public:
  /// Called for a container that is new there, or renamed.
  using OnName = std::move_only_function<void(const std::string& id, const std::string& name)>;
  PodmanStore(EventLoop& loop, OnName on_name);

  /// Reports the names that are there, and from then on those that are new.
  /// @param storage podman's graph root @return ENOENT and others when there is none
  Result<void> start(const std::string& storage);
  /// Name and image as last read; nullptr when it is not there.
  [[nodiscard]] const ContainerFacts* find(const std::string& id) const;
  /// The same, but reads the files again if it is not there.
  [[nodiscard]] const ContainerFacts* find_now(const std::string& id);

 private:
  void on_events(std::span<const Inotify::Event> events);
  void read_names();

  OnName on_name_;
  std::vector<std::string> files_;
  std::map<std::string, ContainerFacts> stored_;  ///< as last read; by id
  Inotify inotify_;
};

}  // namespace portfwd
