// A PathBroker with a loop and the real broker program, whose requests are waited for.
#pragma once

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "broker/client/path_broker.h"
#include "build_paths.h"
#include "kernel/netns.h"
#include "support/deadline.h"

namespace portfwd::testing_support {

/// The place of a process's container.
inline PathPlace place_of(pid_t pid) {
  auto pidfd = open_pidfd(pid);
  EXPECT_TRUE(pidfd.has_value());
  auto place = PathPlace::of_container(pid, pidfd->get());
  EXPECT_TRUE(place.has_value()) << place.error().text();
  return place ? std::move(*place) : PathPlace::of_host().value();
}

class PathRig {
 public:
  using Connected = std::expected<UniqueFd, PathFailure>;
  using Bound = std::expected<BoundUnixSocket, PathFailure>;

  PathRig() { log::set_level(log::Level::Error); }
  PathRig(const PathRig&) = delete;
  PathRig& operator=(const PathRig&) = delete;
  ~PathRig() {
    paths.reset();
    wait_until([this] { return launcher->dying() == 0; });
    log::set_level(log::Level::Info);
  }

  PathBroker& at(PathPlace place) {
    return paths.emplace(loop, launcher, std::move(place),
                         [this](UniqueFd socket) { discarded.push_back(std::move(socket)); });
  }
  Connected connect(const Address& address, const ConnectOptions& options = {}) {
    std::optional<Connected> result;
    const auto call =
        paths->connect(address, options, [&](Connected made) { result = std::move(made); });
    return wait(result);
  }
  Bound listen(const Address& address, const ListenOptions& options = {}) {
    std::optional<Bound> result;
    const auto call =
        paths->listen(address, options, [&](Bound made) { result = std::move(made); });
    return wait(result);
  }
  /// @return 0 or errno
  int remove(BoundUnixSocket bound) {
    std::optional<std::expected<void, PathFailure>> result;
    paths->remove(std::move(bound.bound), std::move(bound.socket),
                  [&](std::expected<void, PathFailure> removed) { result = removed; });
    return error_of(wait(result)).code;
  }
  template <class T>
  static Error error_of(const std::expected<T, PathFailure>& result) {
    return result ? Error{} : result.error().error;
  }

  template <class Condition>
  void wait_until(Condition condition) {
    const TimePoint limit = clock.now() + kDeadline;
    while (!condition() && clock.now() < limit) ASSERT_TRUE(loop.turn(std::chrono::seconds(1)));
    EXPECT_TRUE(condition()) << "not within the deadline";
  }

  SystemClock clock;
  EventLoop loop{clock};
  std::shared_ptr<SpawnLauncher> launcher =
      std::make_shared<SpawnLauncher>(loop, PORTFWD_BROKER_PATH);
  std::vector<UniqueFd> discarded;
  std::optional<PathBroker> paths;

 private:
  template <class T>
  T wait(std::optional<T>& result) {
    wait_until([&] { return result.has_value(); });
    return result ? std::move(*result) : T(std::unexpected(PathFailure{{ETIME, "no answer"}}));
  }
};

}  // namespace portfwd::testing_support
