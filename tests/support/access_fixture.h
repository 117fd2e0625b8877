// An AccessSet with the real broker program, containers that a test creates, and a log of its
// notifications. There is no discovery: the test itself says which containers exist.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <list>
#include <memory>
#include <string>

#include "access/access_set.h"
#include "base/log.h"
#include "build_paths.h"
#include "support/deadline.h"
#include "support/local_carriers.h"
#include "support/manual_clock.h"
#include "support/sandbox.h"
#include "support/temp_dir.h"

namespace portfwd::testing_support {

struct AccessTest : testing::Test, AccessObserver {
  explicit AccessTest(bool diag = true) : has_diag(diag) {
    log::set_level(log::Level::Error);
    reaches.set_observer(*this);
  }
  ~AccessTest() override {
    while (!containers.empty()) remove(containers.front());
    turn_until([this] { return launcher->dying() == 0; });
    log::set_level(log::Level::Info);
  }

  void on_access_added(ContainerAccess&) override {}
  void on_access_changed(ContainerAccess&) override {}
  void on_listeners(ContainerAccess& reach) override {
    std::string ports = reach.container().name + ":";
    for (const Listener& l : reach.listeners()) ports += " " + l.target().text();
    told.push_back(ports);
  }
  void on_access_removed(ContainerAccess&, RemovalReason) override {}

  /// A container as discovery would find it, with the process `pid`.
  Container& container(const std::string& name, pid_t pid) {
    Container& made = containers.emplace_back();
    made.id = made.name = name;
    made.pid = pid;
    made.netns = netns_of(pid);
    const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
    made.netns_fd = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return made;
  }
  /// A container of another user: neither its namespace nor its sockets are visible.
  Container& sealed_container(const std::string& name, pid_t pid) {
    Container& made = container(name, pid);
    made.netns = 0;
    made.netns_fd.reset();
    made.inaccessible = "its namespaces belong to another user";
    return made;
  }
  ContainerAccess& add(const Container& container) {
    reaches.on_container_added(container);
    return *reaches.find(container.id);
  }
  void remove(Container& container) {
    if (reaches.find(container.id) != nullptr) {
      reaches.on_container_removed(container, RemovalReason::Gone);
    }
    containers.remove_if([&](const Container& c) { return &c == &container; });
  }
  bool turn_until(const std::function<bool()>& done) {
    const TimePoint limit = clock.now() + kDeadline;
    while (!done() && clock.now() < limit) EXPECT_TRUE(loop.turn(std::chrono::milliseconds(50)));
    return done();
  }
  bool listens_on(const ContainerAccess& reach, std::size_t count) {
    return turn_until([&] { return reach.listeners().size() == count; });
  }

  struct NoNames final : ProcessNames {
    Search find(std::uint64_t, std::vector<std::uint32_t>, Done) override { return nullptr; }
  };

  SystemClock clock;
  EventLoop loop{clock};
  RelayContext relay{loop};
  NoNames names;
  std::shared_ptr<SpawnLauncher> launcher =
      std::make_shared<SpawnLauncher>(loop, PORTFWD_BROKER_PATH);
  BrokerSet brokers{loop, launcher, NamespaceOwner::this_process()};
  TempDir folder;
  HttpClient http{loop};
  bool engine_runs = false;
  HelperContainers helpers{
      {.loop = loop,
       .http = http,
       .folder = folder.path() + "/runtime",
       .program = PORTFWD_BROKER_PATH,
       .docker = {folder.path() + "/other.sock", folder.path() + "/engine.sock"},
       .user = {"ann", 1000},
       .engine_runs = [this] { return engine_runs; }}};
  bool has_diag;  ///< whether the kernel has tcp_diag and udp_diag at the next probe
  ManualClock modules_clock;
  EventLoop modules_loop{modules_clock};
  DiagModules modules{modules_loop, [this](Protocol) -> Result<void> {
                        if (!has_diag) return fail("sock_diag dump", ENOENT);
                        return {};
                      }};
  LocalCarriers carriers{relay};
  PathBrokers path_brokers{loop, launcher, carriers};
  AccessSet reaches{{loop, brokers, helpers, relay, names, modules, path_brokers}, Settings()};
  std::list<Container> containers;
  std::vector<std::string> told;
};

}  // namespace portfwd::testing_support
