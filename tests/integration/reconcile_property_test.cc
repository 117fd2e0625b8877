// Properties of the forward table: any order of events ends in the forwards of a table that has
// only seen the final state, and repeating the final state changes nothing. Events are listeners,
// containers, settings, dev container metadata, and host ports taken by others; the table
// reconciles after some of them only.
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
    settings.host.sticky = false;  // else the result would depend on the past
    table->apply_settings();
  }

  struct Inside {
    std::string name;             ///< of the container, and of its compose service
    TestAccess* reach = nullptr;  ///< null while there is no such container
    std::vector<Port> ports;
  };

  /// A random subset of: an exclusion, a rule that moves ports, one that sets a label, one that
  /// ignores ports, a declared forward.
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
    Rule& fixed = *out.rules.emplace(out.rules.begin());  // a fall-back depends on the past
    fixed.ports = {{9004, 9004}, {9014, 9014}};
    fixed.require_host_port = true;
    if (coin()) {
      DeclaredForward& declared = out.forwards.emplace_back();
      declared.container = coin() ? "web" : "api";
      declared.target = {Protocol::Tcp, 9000};
      declared.host_port = 19000;
    }
    return out;
  }
  /// Dev container metadata about its own port and that of the other service, or none.
  std::map<std::string, std::string> any_labels() {
    if (coin()) return {{"any", "label"}};
    const char* const attributes = coin() ? R"({"onAutoForward": "ignore"})"
                                          : R"({"label": "asked for", "requireLocalPort": true})";
    const int port = 9000 + static_cast<int>(random() % 5);
    return {{"devcontainer.metadata",
             fmt::format(R"({{"portsAttributes": {{"api:{}": {}, "web:{}": {}}}}})", port + 10,
                         attributes, port, attributes)}};
  }
  void come_or_go(Inside& inside) {
    if (inside.reach != nullptr) {
      // Without its metadata, which would be kept for a while in case the container is created
      // again.
      inside.reach->set_labels({{"any", "other"}});
      table->on_access_changed(*inside.reach);
      table->on_access_removed(*inside.reach, RemovalReason::Gone);
      inside.reach = nullptr;
      inside.ports.clear();
      return;
    }
    inside.reach = &unseen(inside.name);
    inside.reach->set_service("shop", inside.name);
    inside.reach->set_labels(any_labels());
    table->on_access_added(*inside.reach);
  }
  void take_or_free_a_host_port() {
    UniqueFd& socket = coin() ? taken.first : taken.second;
    if (socket.valid()) return socket.reset();
    UniqueFd made(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const Port port = &socket == &taken.first ? 9004 : 9014;
    const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V4), port});
    if (::bind(made.get(), address.get(), address.length) == 0) socket = std::move(made);
  }
  void any_event() {
    Inside& inside = coin() ? web : api;
    switch (random() % 6) {
      case 0:
        settings = any_settings();
        return table->apply_settings();
      case 1:
        return come_or_go(inside);
      case 2:
        return take_or_free_a_host_port();
      case 3:
        if (inside.reach == nullptr) return;
        inside.reach->set_labels(any_labels());
        return table->on_access_changed(*inside.reach);
      default:
        if (inside.reach == nullptr) return;
        inside.ports.clear();
        for (Port p = 9000; p < 9005; ++p) {
          if (coin()) inside.ports.push_back(static_cast<Port>(p + (&inside == &api ? 10 : 0)));
        }
        inside.reach->set_ports(inside.ports);
        return table->on_listeners(*inside.reach);
    }
  }
  /// Makes a new table that sees the final state only.
  void begin_anew() {
    table->stop();
    turn_until([&] { return table->forwards().draining().empty(); });
    make_table({});
    table->declare();
    for (Inside* inside : {&web, &api}) {
      if (inside->reach != nullptr) table->on_access_added(*inside->reach);
    }
    reconcile();
  }
  [[nodiscard]] std::set<std::string> forwards() const {
    std::set<std::string> out;
    for (const ForwardInfo& f : table->forwards().infos()) {
      out.insert(fmt::format("{} {}:{} at {} {} \"{}\"", name_of(f.origin), f.container_name,
                             f.container_port, f.host_port, name_of(f.state), f.label));
    }
    return out;
  }
  [[nodiscard]] bool lingers() const {
    return std::ranges::any_of(table->forwards().infos(), [](const ForwardInfo& f) {
      return f.state == ForwardState::Lingering;
    });
  }
  bool coin() { return random() % 2 == 0; }

  std::mt19937 random{42};  // NOLINT: a fixed seed, so that failures are reproducible
  Inside web{.name = "web"}, api{.name = "api"};
  std::pair<UniqueFd, UniqueFd> taken;  ///< host ports that another program has
};

TEST_F(ReconcileProperties, AnyOrderOfEventsEndsAsIfOnlyTheEndHadBeen) {
  std::size_t most = 0;
  std::size_t conflicts = 0;
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 12; ++i) {
      any_event();
      if (coin()) table->reconcile_dirty();
    }
    table->apply_settings();  // retries conflicts now instead of when they are due
    reconcile();
    ASSERT_TRUE(relay.loop.turn(Duration::zero()));  // forwards without a host port stop lingering
    turn_until([&] { return !lingers(); });
    const std::set<std::string> after_all = forwards();
    told.take();
    table->apply_settings();
    for (const Inside* inside : {&web, &api}) {
      if (inside->reach != nullptr) show(*inside->reach, inside->ports);
    }
    ASSERT_THAT(told.take(), IsEmpty()) << "round " << round << ": once more is no change";
    begin_anew();
    ASSERT_EQ(forwards(), after_all) << "round " << round;
    most = std::max(most, after_all.size());
    conflicts += static_cast<std::size_t>(std::ranges::count_if(
        after_all, [](const std::string& f) { return f.find("conflict") != std::string::npos; }));
  }
  EXPECT_GE(most, 5U) << "the events make something";
  EXPECT_GE(conflicts, 20U) << "and taken ports matter";
}

}  // namespace
}  // namespace portfwd
