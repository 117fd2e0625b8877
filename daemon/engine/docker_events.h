// A Docker engine's stream of events, kept open while it has containers that concern us: renames,
// and what is made, as it may be in the place of another. What else happens to them is seen
// without asking. Owned by EngineFacts. The stream ends when the engine is restarted; then it is
// opened again, later each time that it does not last.
#pragma once

#include <functional>
#include <string>

#include "engine/container_facts.h"
#include "engine/http_client.h"

namespace portfwd {

class DockerEvents final : private HttpStreamHandler {
 public:
  using OnEvent = std::function<void(const ContainerEvent&)>;

  /// @param on_missed renames may have been missed: the stream is open again after it was not
  DockerEvents(EventLoop& loop, HttpClient& http, std::string socket, OnEvent on_event,
               std::function<void()> on_missed);

  [[nodiscard]] bool is_open() const noexcept { return open_; }

 private:
  void open();
  void on_stream_open() override;
  void on_stream_line(std::string_view line) override;
  void on_stream_end(const Error& why) override;

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

}  // namespace portfwd
