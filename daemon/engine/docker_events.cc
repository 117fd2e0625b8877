// See docker_events.h.
#include "engine/docker_events.h"

#include <algorithm>

#include "base/log.h"
#include "engine/answers.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

constexpr Duration kFirstPause = 250ms;
constexpr Duration kLongestPause = 60s;
constexpr Duration kLasted = 30s;  // a stream that lasted so long was no failure

// filters={"type":["container"],"event":["rename","create"]}
constexpr const char* kPath =
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22rename%22%2C"
    "%22create%22%5D%7D";

}  // namespace

DockerEvents::DockerEvents(EventLoop& loop, HttpClient& http, std::string socket, OnEvent on_event,
                           std::function<void()> on_missed)
    : loop_(loop),
      http_(http),
      socket_(std::move(socket)),
      on_event_(std::move(on_event)),
      on_missed_(std::move(on_missed)),
      pause_(kFirstPause),
      retry_(loop, [this] { open(); }) {
  open();
}

void DockerEvents::open() {
  stream_ = http_.follow({.socket = socket_, .path = kPath, .limit = 64UL << 10}, *this);
}

void DockerEvents::on_stream_open() {
  open_ = true;
  opened_ = loop_.now();
  if (std::exchange(was_open_, true)) on_missed_();
}

void DockerEvents::on_stream_line(std::string_view line) {
  if (const auto event = parse_container_event(line)) on_event_(*event);
}

void DockerEvents::on_stream_end(const Error& why) {
  const bool lasted = std::exchange(open_, false) && loop_.now() - opened_ >= kLasted;
  if (lasted) pause_ = kFirstPause;
  log::debug("docker's events at {} ended ({}): again in {} ms", socket_, why.text(),
             std::chrono::duration_cast<std::chrono::milliseconds>(pause_).count());
  retry_.arm_after(pause_);
  pause_ = std::min(pause_ * 2, kLongestPause);
}

}  // namespace portfwd
