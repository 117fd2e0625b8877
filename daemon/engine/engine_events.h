// Changes of containers as engines report them: Docker's stream of events, and the files in which
// podman records events and names.
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

// Stream of a Docker engine's events: renames, and new containers, which may replace others. All
// other changes are found without the engine. Owned by EngineFacts, as long as the engine has
// containers in the registry. When the stream ends, as on a restart of the engine, it is reopened
// after a pause, which is doubled from 250 ms to at most 60 s unless the stream lasted 30 s.
class DockerEvents final {
 public:
  using OnEvent = std::move_only_function<void(const ContainerEvent&)>;

  /// @param on_missed called when the stream has been reopened, so that events may be missing
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

// Events from podman's events.log ($XDG_RUNTIME_DIR/libpod/tmp/events/events.log). New lines are
// read when inotify reports a change, so no podman process is started. If podman writes its events
// to the journal instead, there is no such file and no event. Owned by EngineFacts.
class PodmanEvents final {
 public:
  using OnEvent = std::move_only_function<void(const ContainerEvent&)>;
  PodmanEvents(EventLoop& loop, OnEvent on_event);

  /// Begin at the end of the file. @return the error of opening it, EINVAL if it is not a regular
  /// file
  Result<void> start(const std::string& path);

 private:
  void read_new();
  void parse_lines();

  OnEvent on_event_;
  std::string unread_;  ///< an incomplete line
  UniqueFd file_;
  Inotify inotify_;
};

// Names and images of the user's podman containers, from STORAGE/DRIVER-containers/containers.json;
// there are several such files if the user has changed the storage driver. podman replaces the file
// when a container is made, renamed or removed, which inotify reports. No podman process is
// started, and it does not matter where podman writes its events. Owned by EngineFacts.
class PodmanStore final {
 public:
  /// Called for a container that is new in the files, or renamed.
  using OnName = std::move_only_function<void(const std::string& id, const std::string& name)>;
  PodmanStore(EventLoop& loop, OnName on_name);

  /// Report all containers in the files, and from then on changes.
  /// @param storage podman's graph root @return ENOENT if no file can be watched
  Result<void> start(const std::string& storage);
  /// Name and image as last read; null if the container is not in the files.
  [[nodiscard]] const ContainerFacts* find(const std::string& id) const;
  /// The same, but reads the files again before it returns null. May report changes.
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
