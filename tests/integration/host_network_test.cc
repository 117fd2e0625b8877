// Containers of engines on the host's own network: listed, and nothing more. On a folder that
// imitates /proc, since an ordinary user cannot make the cgroups that engines make; the processes
// in it are real.
#include <gtest/gtest.h>

#include "support/fake_proc.h"
#include "support/finder.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using testing_support::FakeProc;
using testing_support::Finder;
using testing_support::Sandbox;

struct HostNetworkTest : testing::Test {
  HostNetworkTest() { add(::getpid(), kHost, "/"); }
  void add(pid_t pid, std::uint64_t netns, const std::string& path) {
    fake.start(pid, netns);
    fake.write(pid, "cgroup", "0::" + path + "\n");
    fake.write(pid, "comm", "httpd\n");
    fake.write(pid, "status", "Uid:\t1000\t1000\t1000\t1000\n");
  }
  const Container* of_engine() {
    for (const Container* container : finder->registry.containers()) {
      if (container->engine_id == id) return container;
    }
    return nullptr;
  }

  static constexpr std::uint64_t kHost = 1;
  const std::string id = std::string(64, 'd');
  const std::string cgroup = "/user.slice/libpod-" + id + ".scope/container";
  FakeProc fake;
  std::optional<Finder> finder;
  Sandbox process;
};

TEST_F(HostNetworkTest, AnEnginesContainerIsKnownOfUntilItEnds) {
  add(process.pid(), kHost, cgroup);
  finder.emplace(Discovery::Options{}, fake.path());
  finder->start();
  ASSERT_TRUE(finder->until([&] { return of_engine() != nullptr; }));
  EXPECT_TRUE(of_engine()->on_host);
  EXPECT_EQ(of_engine()->engine, "podman");
  EXPECT_EQ(of_engine()->pid, process.pid());
  EXPECT_EQ(of_engine()->uid, 1000U);
  EXPECT_NE(of_engine()->inaccessible, "");
  fake.end(process.pid());
  process.end();
  EXPECT_TRUE(finder->until([&] { return of_engine() == nullptr; }));
}

TEST_F(HostNetworkTest, WhatIsInNoEnginesCgroupIsNoContainer) {
  add(process.pid(), kHost, "/user.slice/session-1.scope");
  const Sandbox other;
  add(other.pid(), kHost, cgroup);
  finder.emplace(Discovery::Options{}, fake.path());
  finder->start();
  ASSERT_TRUE(finder->until([&] { return of_engine() != nullptr; }));
  EXPECT_EQ(finder->registry.containers().size(), 1U);
}

}  // namespace
}  // namespace portfwd
