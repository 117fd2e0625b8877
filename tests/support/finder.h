// All of discovery on a loop of its own, as main builds it, with a log of the Registry's
// notifications.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "build_paths.h"
#include "discover/discovery.h"
#include "support/deadline.h"
#include "support/registry_log.h"

namespace portfwd::testing_support {

template <class ClockKind>
struct FinderBy {
  explicit FinderBy(Discovery::Options options = {}, const std::string& proc_folder = "/proc")
      : proc(proc_folder),
        reader(loop, {.program = PORTFWD_BROKER_PATH, .folder = proc_folder}),
        discovery({loop, proc, facts, identifier, boundary, registry},
                  generous(std::move(options))) {
    registry.add_observer(log);
  }
  /// A sanitizer's build on a busy machine scans ten times slower. The scan rate has tests of its
  /// own.
  static Discovery::Options generous(Discovery::Options options) {
    options.budget = 0.5;
    return options;
  }
  ~FinderBy() { registry.remove_observer(log); }
  void start() { ASSERT_TRUE(discovery.start()); }

  /// Turns the loop until `done`. @return false when that took longer than kDeadline
  bool until(const std::function<bool()>& done) {
    const SystemClock real;
    const TimePoint limit = real.now() + kDeadline;
    while (!done()) {
      if (real.now() > limit) return false;
      (void)loop.turn(std::chrono::seconds(1));
    }
    return true;
  }
  [[nodiscard]] const Container* by_netns(std::uint64_t netns) const {
    for (const Container* container : registry.containers()) {
      if (container->netns == netns) return container;
    }
    return nullptr;
  }
  /// Waits for the container of that namespace.
  const Container* wait_for(std::uint64_t netns) {
    until([&] { return by_netns(netns) != nullptr; });
    return by_netns(netns);
  }
  bool wait_gone(std::uint64_t netns) {
    return until([&] { return by_netns(netns) == nullptr; });
  }

  ClockKind clock;
  EventLoop loop{clock};
  ProcDir proc;
  Reader reader;
  ProcessFactsCache facts{reader, proc};
  Identifier identifier{proc, facts};
  Boundary boundary{proc, identifier};
  Registry registry{loop, proc};
  AttachRequests attach{registry, proc, identifier, boundary};
  RegistryLog log;
  Discovery discovery;
};

using Finder = FinderBy<SystemClock>;

}  // namespace portfwd::testing_support
