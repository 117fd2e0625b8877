// Who a process's container is when the cgroup, the ancestors and the environment each say
// something: on a folder that looks like /proc, and one that looks like the cgroup hierarchy.
#include "discover/identity.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "kernel/cgroup_folder.h"
#include "support/fake_proc.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

struct IdentityTest : testing::Test {
  IdentityTest() {
    std::filesystem::create_directories(proc.path() + "/self");
    std::ofstream(proc.path() + "/self/mountinfo")
        << "30 20 0:26 / " << cgroups.path() << " rw - cgroup2 cgroup2 rw\n";
    process(kKeeper, 1, "/", {});
  }
  /// @param words of its command line
  void process(pid_t pid, pid_t parent, const std::string& cgroup,
               const std::vector<std::string>& words) {
    proc.start(pid, 1);
    std::filesystem::create_directories(cgroups.path() + cgroup);
    proc.write(pid, "cgroup", "0::" + cgroup + "\n");
    proc.write(pid, "stat", fmt::format("{} (server) S {} 0 0 0", pid, parent));
    proc.write(pid, "comm", "server\n");
    std::string line;
    for (const std::string& word : words) line += word + '\0';
    proc.write(pid, "cmdline", line);
  }
  Identity identify() {
    const ProcDir dir(proc.path());
    return Identifier(dir).identify(kProcess);
  }

  static constexpr pid_t kKeeper = 100, kProcess = 101;
  const std::string id = std::string(64, 'c');
  testing_support::FakeProc proc;
  testing_support::TempDir cgroups;
};

TEST_F(IdentityTest, FlatpaksSandboxIsFlatpaksThoughBubblewrapKeepsIt) {
  process(kKeeper, 1, "/app.slice/app-flatpak-org.example.App-99.scope", {"bwrap", "--args", "42"});
  process(kProcess, kKeeper, "/app.slice/app-flatpak-org.example.App-99.scope", {"app"});
  EXPECT_EQ(identify().engine, "flatpak");
  EXPECT_EQ(identify().name, "org.example.App");
}

TEST_F(IdentityTest, WithoutAScopeItsEnvironmentTellsTheApp) {
  process(kKeeper, 1, "/", {"bwrap", "--args", "42"});
  process(kProcess, kKeeper, "/", {"app"});
  EXPECT_EQ(identify().engine, "bubblewrap");
  using namespace std::string_literals;
  proc.write(kProcess, "environ", "container=flatpak\0FLATPAK_ID=org.example.App\0"s);
  EXPECT_EQ(identify().engine, "flatpak");
  EXPECT_EQ(identify().name, "org.example.App");
}

TEST_F(IdentityTest, ConmonOfAnotherEngineIsToldByTheCgroup) {
  process(kKeeper, 1, "/", {"conmon", "-c", id, "-n", "k8s_web"});
  process(kProcess, kKeeper, "/kubepods.slice/crio-" + id + ".scope", {"web"});
  EXPECT_EQ(identify().engine, "kubernetes");
  EXPECT_EQ(identify().engine_id, id);
  EXPECT_EQ(identify().name, "k8s_web");
}

/// A rootless engine and its shims run in a network namespace of their own.
TEST_F(IdentityTest, AShimKeepsNoContainerInItsOwnNetwork) {
  process(kKeeper, 1, "/", {"containerd-shim-runc-v2", "-namespace", "moby", "-id", id});
  process(kProcess, kKeeper, "/", {"exe"});
  EXPECT_EQ(identify().engine_id, "");
  proc.move(kProcess, 2);
  EXPECT_EQ(identify().engine_id, id);
  EXPECT_EQ(identify().engine, "docker");
}

TEST_F(IdentityTest, ACgroupOfTheRuntimesNamesNotTheEngine) {
  process(kKeeper, 1, "/", {"containerd-shim-runc-v2", "-namespace", "moby", "-id", id});
  process(kProcess, kKeeper, "/user.slice/runc-" + id + ".scope", {"web"});
  proc.move(kProcess, 2);
  EXPECT_EQ(identify().engine, "docker");
  EXPECT_EQ(identify().name, id.substr(0, 12));
}

TEST_F(IdentityTest, AContainersFolderIsAboveTheCgroupsThatItMakesItself) {
  const std::string folder = "/user.slice/libpod-" + id + ".scope";
  process(kProcess, kKeeper, folder + "/container/init.scope", {"systemd"});
  const Identity found = identify();
  EXPECT_EQ(found.cgroup, cgroups.path() + folder);
  EXPECT_EQ(found.cgroup_id, cgroup_id_of(cgroups.path() + folder + "/container/init.scope"));
  EXPECT_TRUE(cgroup_holds(found.cgroup, found.cgroup_id));
}

TEST_F(IdentityTest, ASandboxInAContainerDoesNotHaveItsFolder) {
  const std::string folder = "/user.slice/libpod-" + id + ".scope";
  process(kKeeper, 1, folder, {"bwrap", "--unshare-net"});
  process(kProcess, kKeeper, folder, {"sh"});
  EXPECT_EQ(identify().engine, "bubblewrap");
  EXPECT_EQ(identify().cgroup, "");
  EXPECT_NE(identify().cgroup_id, 0U);
}

TEST_F(IdentityTest, OnTheHostsNetworkOnlyAFormBeyondDoubtCounts) {
  const ProcDir dir(proc.path());
  const Identifier identifier(dir);
  process(kProcess, kKeeper, "/sshd", {"sshd"});
  EXPECT_EQ(identifier.engine_id_by_cgroup(kProcess), "");
  process(kProcess, kKeeper, "/docker/" + id, {"web"});
  EXPECT_EQ(identifier.engine_id_by_cgroup(kProcess), id);
}

}  // namespace
}  // namespace portfwd
