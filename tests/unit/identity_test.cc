// Identity of a process's container if cgroup, ancestors and environment contradict each other. On
// an imitation of /proc and of the cgroup hierarchy.
#include "discover/identity.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "build_paths.h"
#include "kernel/procfs.h"
#include "support/fake_proc.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

struct IdentityTest : testing::Test {
  IdentityTest() {
    std::filesystem::create_directories(proc.path() + "/self");
    std::ofstream(proc.path() + "/self/mountinfo")
        << "30 20 0:26 / " << cgroups.path() << " rw - cgroup2 cgroup2 rw\n";
    const std::string self = std::to_string(::getpid());
    std::filesystem::create_directories(proc.path() + "/" + self + "/ns");
    std::ofstream(proc.path() + "/" + self + "/uid_map") << kHostMap;
    proc.move(::getpid(), kHostNetwork);
    process(kKeeper, 1, "/", {});
  }
  /// Starts a process of a container, in the network namespace `netns`.
  void inside(pid_t pid, pid_t parent, const std::string& cgroup,
              const std::vector<std::string>& words, std::uint64_t netns = kNetwork) {
    process(pid, parent, cgroup, words);
    proc.move(pid, netns);
  }
  /// Starts a process in the host's network namespace. @param words its command line
  void process(pid_t pid, pid_t parent, const std::string& cgroup,
               const std::vector<std::string>& words) {
    proc.start(pid, kHostNetwork);
    proc.write(pid, "uid_map", kHostMap);
    std::filesystem::create_directories(cgroups.path() + cgroup);
    proc.write(pid, "cgroup", "0::" + cgroup + "\n");
    proc.write(pid, "stat", fmt::format("{} (server) S {} 0 0 0", pid, parent));
    proc.write(pid, "comm", "server\n");
    std::string line;
    for (const std::string& word : words) line += word + '\0';
    proc.write(pid, "cmdline", line);
  }
  Identity identify(pid_t pid = kProcess) {
    const ProcDir dir(proc.path());
    Reader reader(loop, {.program = PORTFWD_BROKER_PATH, .folder = proc.path()});
    ProcessFactsCache facts(reader, dir);
    const Identifier identifier(dir, facts);
    (void)identifier.identify(pid);
    while (reader.waiting() > 0) {
      reader.wait(std::chrono::seconds(20));
      (void)identifier.identify(pid);  // may request more facts
    }
    const Identity found = identifier.identify(pid);
    EXPECT_TRUE(found.complete);
    return found;
  }

  static constexpr pid_t kKeeper = 100, kProcess = 101, kChild = 102;
  static constexpr std::uint64_t kHostNetwork = 1, kNetwork = 2, kInner = 3;
  static constexpr const char* kHostMap = "         0          0 4294967295\n";
  static constexpr const char* kSandboxMap = "         0       1000          1\n";
  static constexpr const char* kPodmanMap =
      "         0       1000          1\n         1     100000      65536\n";
  const std::string id = std::string(64, 'c');
  const std::string shop = std::string(64, 'a');
  const std::string folder_of_id = "/user.slice/libpod-" + id + ".scope";
  SystemClock clock;
  EventLoop loop{clock};
  testing_support::FakeProc proc;
  testing_support::TempDir cgroups;
};

TEST_F(IdentityTest, PrefersFlatpakToItsKeeperBubblewrap) {
  process(kKeeper, 1, "/app.slice/app-flatpak-org.example.App-99.scope", {"bwrap", "--args", "42"});
  inside(kProcess, kKeeper, "/app.slice/app-flatpak-org.example.App-99.scope", {"app"});
  EXPECT_EQ(identify().engine, "flatpak");
  EXPECT_EQ(identify().name, "org.example.App");
}

TEST_F(IdentityTest, ReadsTheAppFromTheEnvironmentWithoutAScope) {
  process(kKeeper, 1, "/", {"bwrap", "--args", "42"});
  inside(kProcess, kKeeper, "/", {"app"});
  EXPECT_EQ(identify().engine, "bubblewrap");
  using namespace std::string_literals;
  proc.write(kProcess, "environ", "container=flatpak\0FLATPAK_ID=org.example.App\0"s);
  EXPECT_EQ(identify().engine, "flatpak");
  EXPECT_EQ(identify().name, "org.example.App");
}

TEST_F(IdentityTest, DeterminesTheEngineOfConmonByTheCgroup) {
  process(kKeeper, 1, "/", {"conmon", "-c", id, "-n", "k8s_web"});
  inside(kProcess, kKeeper, "/kubepods.slice/crio-" + id + ".scope", {"web"});
  EXPECT_EQ(identify().engine, "kubernetes");
  EXPECT_EQ(identify().engine_id, id);
  EXPECT_EQ(identify().name, "k8s_web");
}

/// A rootless engine and its shims run in their own network namespace.
TEST_F(IdentityTest, IgnoresAShimInTheNetworkOfTheProcess) {
  process(kKeeper, 1, "/", {"containerd-shim-runc-v2", "-namespace", "moby", "-id", id});
  process(kProcess, kKeeper, "/", {"exe"});
  EXPECT_EQ(identify().engine_id, "");
  proc.move(kProcess, kNetwork);
  EXPECT_EQ(identify().engine_id, id);
  EXPECT_EQ(identify().engine, "docker");
}

TEST_F(IdentityTest, IgnoresACgroupThatNamesOnlyTheRuntime) {
  process(kKeeper, 1, "/", {"containerd-shim-runc-v2", "-namespace", "moby", "-id", id});
  inside(kProcess, kKeeper, "/user.slice/runc-" + id + ".scope", {"web"});
  EXPECT_EQ(identify().engine, "docker");
  EXPECT_EQ(identify().name, id.substr(0, 12));
}

TEST_F(IdentityTest, FindsTheFolderAboveCgroupsMadeByTheContainer) {
  const std::string folder = "/user.slice/libpod-" + id + ".scope";
  inside(kProcess, kKeeper, folder + "/container/init.scope", {"systemd"});
  const Identity found = identify();
  EXPECT_EQ(found.cgroup, cgroups.path() + folder);
  EXPECT_EQ(found.cgroup_id, cgroup_id_of(cgroups.path() + folder + "/container/init.scope"));
  EXPECT_TRUE(cgroup_holds(found.cgroup, found.cgroup_id));
}

TEST_F(IdentityTest, SetsNoFolderForASandboxInAContainer) {
  inside(kKeeper, 1, folder_of_id, {"bwrap", "--unshare-net", "--hostname", "shop"});
  inside(kProcess, kKeeper, folder_of_id, {"sh"}, kInner);
  EXPECT_EQ(identify().engine, "bubblewrap");
  EXPECT_EQ(identify().engine_id, "");
  EXPECT_EQ(identify().name, "server-101");
  EXPECT_EQ(identify().cgroup, "");
  EXPECT_NE(identify().cgroup_id, 0U);
}

/// A container runs a program named conmon with the id of another one.
TEST_F(IdentityTest, KeepsTheIdOfTheCgroupWhenAProcessForgesAKeeper) {
  process(kKeeper, 1, "/user.slice/libpod-conmon-" + id + ".scope",
          {"conmon", "-c", id, "-n", "evil"});
  inside(kProcess, kKeeper, folder_of_id + "/container", {"conmon", "-c", shop, "-n", "shop"});
  inside(kChild, kProcess, folder_of_id + "/container", {"httpd"});
  for (const pid_t pid : {kProcess, kChild}) {
    EXPECT_EQ(identify(pid).engine_id, id);
    EXPECT_EQ(identify(pid).engine, "podman");
    EXPECT_EQ(identify(pid).name, "evil");
  }
  proc.move(kChild, kInner);  // it may make a network namespace, and set any HOSTNAME there
  using namespace std::string_literals;
  proc.write(kChild, "environ", "container=podman\0HOSTNAME=shop\0"s);
  EXPECT_EQ(identify(kChild).engine_id, "");
  EXPECT_EQ(identify(kChild).name, "server-102");
}

/// A folder below the container's own may have any name, if it was delegated.
TEST_F(IdentityTest, KeepsTheOutermostIdWhenAContainerForgesCgroups) {
  process(kKeeper, 1, "/", {"conmon", "-c", id, "-n", "evil"});
  const std::string lie = folder_of_id + "/container/libpod-" + shop + ".scope";
  inside(kProcess, kKeeper, lie, {"httpd"});
  EXPECT_EQ(identify().engine_id, id);
  EXPECT_EQ(identify().name, "evil");
  EXPECT_EQ(identify().cgroup, cgroups.path() + folder_of_id);
}

/// A container without its own cgroup is recognised by its keeper, if that is outside of it.
TEST_F(IdentityTest, IgnoresKeepersInTheSameNetworkOrInASandbox) {
  inside(kKeeper, 1, "/", {"conmon", "-c", shop, "-n", "shop"});
  inside(kProcess, kKeeper, "/", {"httpd"});
  EXPECT_EQ(identify().engine_id, "") << "the same network";
  proc.move(kProcess, kInner);
  proc.write(kKeeper, "uid_map", kSandboxMap);
  EXPECT_EQ(identify().engine_id, "") << "a sandbox of one id";
  EXPECT_EQ(identify().name, "server-101");
  proc.write(kKeeper, "uid_map", kPodmanMap);
  EXPECT_EQ(identify().engine_id, shop) << "the engine's own user namespace";
  EXPECT_EQ(identify().name, "shop");
}

TEST_F(IdentityTest, IgnoresTheIdFromAKeeperOfAnotherUser) {
  process(kKeeper, 1, "/", {"conmon", "-c", shop, "-n", "shop"});
  proc.write(kKeeper, "status", fmt::format("Uid:\t{0}\t{0}\t{0}\t{0}\n", ::geteuid() + 7));
  inside(kProcess, kKeeper, "/", {"httpd"});
  EXPECT_EQ(identify().engine_id, "");
}

TEST_F(IdentityTest, RequiresACertainFormOnTheHostsNetwork) {
  const ProcDir dir(proc.path());
  Reader reader(loop, {.program = PORTFWD_BROKER_PATH, .folder = proc.path()});
  ProcessFactsCache facts(reader, dir);
  const Identifier identifier(dir, facts);
  inside(kProcess, kKeeper, "/sshd", {"sshd"});
  EXPECT_EQ(identifier.engine_id_by_cgroup(kProcess), "");
  inside(kProcess, kKeeper, "/docker/" + id, {"web"});
  EXPECT_EQ(identifier.engine_id_by_cgroup(kProcess), id);
}

}  // namespace
}  // namespace portfwd
