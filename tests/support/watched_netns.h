// A port watch on a new namespace, with real sockets, counters and events, as in the daemon, and a
// log of its notifications. The test turns the loop.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "access/port_watch.h"
#include "support/deadline.h"
#include "support/manual_clock.h"
#include "support/test_netns.h"

namespace portfwd::testing_support {

inline constexpr IpAddress kLoopback4 = IpAddress::loopback(Family::V4);
inline constexpr IpAddress kLoopback6 = IpAddress::loopback(Family::V6);

/// One container: a namespace with a watch on it, and a log of the watch's notifications.
struct Watched {
  explicit Watched(const PortWatch::Shared& shared)
      : loop(shared.loop), watch(shared, callbacks(), ns.pid(), netns(ns.pid())) {}
  Watched(const PortWatch::Shared& shared, pid_t pid)
      : loop(shared.loop), watch(shared, callbacks(), pid, 0) {}

  static std::uint64_t netns(pid_t pid) {
    struct stat st {};
    EXPECT_EQ(::stat(("/proc/" + std::to_string(pid) + "/ns/net").c_str(), &st), 0);
    return st.st_ino;
  }
  PortWatch::Callbacks callbacks() {
    return {.on_source_needed =
                [this] {
                  ++asked;
                  if (provide) provide();
                },
            .on_listeners = [this] { ++changes; }};
  }
  void give() {
    watch.use_diag(ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG),
                   ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
  }

  [[nodiscard]] std::vector<Endpoint> endpoints() const {
    std::vector<Endpoint> out;
    for (const Listener& l : watch.listeners()) out.push_back(l.local.ip());
    return out;
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const Listener& l : watch.listeners()) out.push_back(l.local.text());
    return out;
  }
  /// Turns the loop until `condition` holds. @return whether it holds
  bool until(const std::function<bool()>& condition, Duration limit = kDeadline) {
    const TimePoint end = loop.now() + limit;
    while (!condition()) {
      if (loop.now() >= end) return false;
      EXPECT_TRUE(loop.turn(std::min<Duration>(end - loop.now(), limit_of_turn)));
    }
    return true;
  }
  bool until_listeners(std::size_t count) {
    return until([&] { return watch.listeners().size() == count && settled(); });
  }
  /// Whether a notification followed each change; it comes a turn after the change.
  bool settled() {
    if (last_told == watch.listeners()) return true;
    if (changes == told) return false;
    told = changes;
    last_told = watch.listeners();
    return true;
  }
  /// Polls at least once more, so that earlier changes are seen.
  void poll_now() {
    const auto before = watch.dumps();
    EXPECT_TRUE(until([&] { return watch.dumps() > before; }));
  }

  EventLoop& loop;
  Duration limit_of_turn = std::chrono::milliseconds(100);
  TestNetns ns;
  int asked = 0;
  int changes = 0;
  int told = 0;
  std::vector<Listener> last_told;
  std::function<void()> provide = [this] { give(); };
  PortWatch watch;
};

struct PortWatchTest : testing::Test {
  explicit PortWatchTest(bool tcp_diag = true, bool udp_diag = true, bool unix_diag = true)
      : has_tcp_diag(tcp_diag), has_udp_diag(udp_diag), has_unix_diag(unix_diag) {}
  /// Makes DiagModules probe again, with the modules that the test has set.
  void look_at_modules() {
    modules_clock.advance(DiagModules::kPause);
    EXPECT_TRUE(modules_loop.turn(Duration::zero()));
  }

  SystemClock clock;
  EventLoop loop{clock};
  Pace pace{loop, Settings::Detect{}};
  CloseRateLimit rate_limit;
  UdpInterest udp;
  bool has_tcp_diag;
  bool has_udp_diag;
  bool has_unix_diag;
  ManualClock modules_clock;
  EventLoop modules_loop{modules_clock};
  DiagModules modules{modules_loop, [this](Protocol protocol) -> Result<void> {
                        const bool there = protocol == Protocol::Tcp   ? has_tcp_diag
                                           : protocol == Protocol::Udp ? has_udp_diag
                                                                       : has_unix_diag;
                        if (!there) return fail("sock_diag dump", ENOENT);
                        return {};
                      }};
  PortWatch::Shared shared{loop, pace, rate_limit, udp, modules};
};

}  // namespace portfwd::testing_support
