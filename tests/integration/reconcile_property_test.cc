// What the forward table promises whatever happens: any order of events ends in the forwards that a
// table makes which sees nothing but the end, and doing it once more changes nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "support/forward_table_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::IsEmpty;

struct ReconcileProperties : ForwardTableTest {
  ReconcileProperties() {
    settings.host.linger = Duration::zero();
    settings.host.sticky = false;  // or the past would show
    table->apply(settings);
  }

  struct Inside {
    TestReach* reach = nullptr;  ///< null while it is away
    std::vector<Port> ports;
  };

  /// Some of: an exclusion, a rule that moves, one that labels, one that ignores, a declaration.
  Settings any_settings() {
    Settings out = settings;
    out.ports.exclude.clear();
    if (coin()) out.ports.exclude = {{9001, 9001}, {9011, 9011}};
    if (coin()) out.rules.emplace_back().label = coin() ? "one" : "other";
    if (coin()) {
      Rule& rule = *out.rules.emplace(out.rules.begin());
      rule.ports = {{9002, 9003}};
      rule.host_port = 19002;
      rule.require_host_port = true;
    }
    if (coin()) {
      Rule& rule = *out.rules.emplace(out.rules.begin());
      rule.container = "api";
      rule.on_auto_forward = "ignore";
    }
    if (coin()) {
      DeclaredForward& declared = out.forwards.emplace_back();
      declared = {.container = coin() ? "web" : "api", .target = {Protocol::Tcp, 9000}};
      declared.host_port = 19000;
    }
    return out;
  }
  void any_event() {
    Inside& inside = coin() ? web : api;
    const std::string name = &inside == &web ? "web" : "api";
    switch (random() % 4) {
      case 0:
        now = any_settings();
        return table->apply(now);
      case 1:
        if (inside.reach == nullptr) {
          inside.reach = &container(name);
        } else {
          table->on_reach_removed(*inside.reach, RemovalReason::Gone);
          inside = {};
        }
        return;
      default:
        if (inside.reach == nullptr) return;
        inside.ports.clear();
        for (Port p = 9000; p < 9005; ++p) {
          if (coin()) inside.ports.push_back(static_cast<Port>(p + (&inside == &api ? 10 : 0)));
        }
        return show(*inside.reach, inside.ports);
    }
  }
  /// The same end, for a table that has seen nothing else.
  void begin_anew() {
    table->stop();
    turn_until([&] { return !table->draining(); });
    table.emplace(ForwardTable::Parts{relay.loop, relay.services, holder, told, ::geteuid()}, now,
                  State{});
    table->declare();
    for (Inside* inside : {&web, &api}) {
      if (inside->reach != nullptr) table->on_reach_added(*inside->reach);
    }
  }
  [[nodiscard]] std::set<std::string> forwards() const {
    std::set<std::string> out;
    for (const ForwardInfo& f : table->infos()) {
      out.insert(fmt::format("{} {}:{} at {} {} \"{}\"", name_of(f.origin), f.container_name,
                             f.container_port, f.host_port, name_of(f.state), f.label));
    }
    return out;
  }
  [[nodiscard]] bool lingers() const {
    return std::ranges::any_of(
        table->infos(), [](const ForwardInfo& f) { return f.state == ForwardState::Lingering; });
  }
  bool coin() { return random() % 2 == 0; }

  std::mt19937 random{42};  // NOLINT: a fixed seed, so that a failure can be repeated
  Settings now = settings;
  Inside web, api;
};

TEST_F(ReconcileProperties, AnyOrderOfEventsEndsAsIfOnlyTheEndHadBeen) {
  std::size_t most = 0;
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 12; ++i) any_event();
    turn_until([&] { return !lingers(); });
    const std::set<std::string> after_all = forwards();
    told.take();
    table->apply(now);
    for (const Inside* inside : {&web, &api}) {
      if (inside->reach != nullptr) table->on_listeners(*inside->reach);
    }
    ASSERT_THAT(told.take(), IsEmpty()) << "round " << round << ": once more is no change";
    begin_anew();
    ASSERT_EQ(forwards(), after_all) << "round " << round;
    most = std::max(most, after_all.size());
  }
  EXPECT_GE(most, 5U) << "the events make something";
}

}  // namespace
}  // namespace portfwd
