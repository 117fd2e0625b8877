// Names of containers from cgroup paths, command lines and environments: the forms of each engine,
// and forged ones.
#include "discover/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernel/procfs.h"
#include "support/captured.h"

namespace portfwd::names {
namespace {

using testing_support::captured;

const std::string kHex = "3f4e8a2b9c0d1e5f6a7b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b";

const std::string kUser = "/user.slice/user-1000.slice/user@1000.service";

/// A cgroup path, split after the container's folder, and the expected result.
struct CgroupCase {
  std::string folder, below, engine, id, name;
};

TEST(NamesFromCgroup, RecognisesTheFormsOfAllEngines) {
  const std::vector<CgroupCase> cases{
      {"/docker/" + kHex, "", "docker", kHex, ""},
      {"/docker/" + kHex, "/init.scope", "docker", kHex, ""},
      {"/system.slice/docker-" + kHex + ".scope", "", "docker", kHex, ""},
      {kUser + "/user.slice/docker-" + kHex + ".scope", "", "docker", kHex, ""},
      {"/libpod_parent/libpod-" + kHex, "", "podman", kHex, ""},
      {"/user.slice/libpod-" + kHex + ".scope", "/container", "podman", kHex, ""},
      {kUser + "/user.slice/libpod-" + kHex + ".scope", "/container/system.slice/a.service",
       "podman", kHex, ""},
      {kUser + "/user.slice/user-libpod_pod_" + kHex + ".slice/libpod-" + kHex + ".scope",
       "/container", "podman", kHex, ""},
      {kUser + "/app.slice/redis.service/libpod-payload-" + kHex, "", "podman", kHex, ""},
      {"/kubepods/besteffort/pod1-2/" + kHex, "", "kubernetes", kHex, ""},
      {"/kubepods.slice/x.slice/cri-containerd-" + kHex + ".scope", "", "kubernetes", kHex, ""},
      {"/kubepods.slice/x.slice/crio-" + kHex + ".scope", "", "kubernetes", kHex, ""},
      {"/system.slice/containerd.service/kubepods-pod1_2.slice:cri-containerd:" + kHex, "",
       "kubernetes", kHex, ""},
      {"/k8s.io/" + kHex, "", "kubernetes", kHex, ""},
      {"/system.slice/nerdctl-" + kHex + ".scope", "", "containerd", kHex, ""},
      {kUser + "/user.slice/nerdctl-" + kHex + ".scope", "", "containerd", kHex, ""},
      {"/default/" + kHex, "", "containerd", kHex, ""},
      {"/default/web", "/sub", "containerd", "web", "web"},
      {"/docker/buildkit/b7wmqglbs1t4", "", "buildkit", "b7wmqglbs1t4", "b7wmqglbs1t4"},
      {"/machine.slice/machine-deb\\x2d12.scope", "/payload", "nspawn", "deb-12", "deb-12"},
      {"/machine.slice/systemd-nspawn@web.service", "/payload/init.scope", "nspawn", "web", "web"},
      {"/machine.slice/machine-qemu\\x2d1\\x2dvm.scope", "", "libvirt", "qemu-1-vm", "qemu-1-vm"},
      {"/machine.slice/machine-lxc\\x2d7\\x2dbox.scope", "", "libvirt", "lxc-7-box", "lxc-7-box"},
      {"/lxc.payload.box", "/init.scope", "lxc", "box", "box"},
      {kUser + "/lxc.payload.box", "/system.slice/a.service", "lxc", "box", "box"},
      {"/lxc.payload/box", "", "lxc", "box", "box"},
      {"/lxc/101", "/ns/system.slice/a.service", "lxc", "101", "101"},
      {kUser + "/app.slice/app-flatpak-org.example.App-123.scope", "", "flatpak", "",
       "org.example.App"},
      {kUser + "/flatpak-org.example.My\\x2dApp-123.scope", "", "flatpak", "",
       "org.example.My-App"},
      {kUser + "/app.slice/crun-bundle.scope", "", "crun", "bundle", "bundle"},
      {"/system.slice/runc-my\\x2dbundle.scope", "", "runc", "my-bundle", "my-bundle"},
      {"/payload", "", "nspawn", "", ""},
      {"/mycontainer", "", "runc", "mycontainer", "mycontainer"},
  };
  for (const CgroupCase& expected : cases) {
    const std::string path = expected.folder + expected.below;
    const auto guess = from_cgroup(path);
    ASSERT_TRUE(guess) << path;
    EXPECT_EQ(guess->engine, expected.engine) << path;
    EXPECT_EQ(guess->id, expected.id) << path;
    EXPECT_EQ(guess->name, expected.name) << path;
    EXPECT_EQ(guess->cgroup, expected.folder) << path;
  }
}

TEST(NamesFromCgroup, ReturnsNothingForOtherCgroups) {
  for (const std::string& path : std::vector<std::string>{
           "", "/", "/init.scope", "/user.slice/user-1000.slice/session-1.scope",
           "/user.slice/libpod-conmon-" + kHex + ".scope", "/system.slice/ssh.service",
           "/docker/" + kHex.substr(1), "/x/" + kHex, "/supervisor", "machine-x.scope.d/y",
           "/lxc.monitor.box", kUser + "/app.slice/redis.service/runtime", "/default/",
           "/system.slice/crio-conmon-" + kHex + ".scope", "/system.slice/run-r0123.scope"}) {
    EXPECT_FALSE(from_cgroup(path)) << path;
  }
}

TEST(NamesFromCgroup, IgnoresFoldersBelowThatOfAContainer) {
  EXPECT_EQ(from_cgroup("/lxc.payload.box/docker/" + kHex)->engine, "lxc");
  const std::string other(64, 'a');
  const auto guess = from_cgroup(kUser + "/user.slice/libpod-" + kHex + ".scope/container/libpod-" +
                                 other + ".scope");
  EXPECT_EQ(guess->id, kHex);
  EXPECT_EQ(guess->cgroup, kUser + "/user.slice/libpod-" + kHex + ".scope");
}

TEST(NamesFromCgroup, FindsAContainerBelowTheScopeOfAnApp) {
  const auto guess = from_cgroup(kUser + "/app.slice/app-flatpak-org.example.Terminal-7.scope/" +
                                 "user.slice/libpod-" + kHex + ".scope");
  EXPECT_EQ(guess->id, kHex);
}

TEST(NamesFromCgroup, MarksAmbiguousFormsAsUncertain) {
  EXPECT_FALSE(from_cgroup("/mycontainer")->certain);
  EXPECT_FALSE(from_cgroup("/default/web")->certain);
  EXPECT_FALSE(from_cgroup("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope")->certain);
  EXPECT_TRUE(from_cgroup("/docker/" + kHex)->certain);
}

TEST(NamesFromKeeper, ReadsNameAndIdFromConmon) {
  const auto guess = from_keeper(procfs::split_strings(captured("proc/cmdline_conmon")));
  ASSERT_TRUE(guess);
  EXPECT_EQ(guess->engine, "podman");
  EXPECT_EQ(guess->name, "webby");
  EXPECT_TRUE(is_hex_id(guess->id));
}

TEST(NamesFromKeeper, ReadsTheKeepersOfOtherEngines) {
  using Words = std::vector<std::string>;
  const auto shim = from_keeper(Words{"/usr/bin/containerd-shim-runc-v2", "-namespace", "moby",
                                      "-id", kHex, "-address", "/run/x.sock"});
  EXPECT_EQ(shim->engine, "docker");
  EXPECT_EQ(shim->id, kHex);
  const auto ctr = from_keeper(Words{"containerd-shim", "-namespace", "default", "-id", "web"});
  EXPECT_EQ(ctr->engine, "containerd");
  EXPECT_EQ(ctr->name, "web");
  const auto rootless =
      from_keeper(Words{"rootlesskit", "--net=slirp4netns", "/x/dockerd-rootless.sh"});
  EXPECT_EQ(rootless->engine, "rootlesskit");
  EXPECT_FALSE(from_keeper(Words{"rootlesskit", "--net=slirp4netns", "bash"}));
  EXPECT_EQ(from_keeper(Words{"systemd-nspawn", "-D", "/srv/deb12"})->name, "deb12");
  EXPECT_EQ(from_keeper(Words{"systemd-nspawn", "-M", "m", "-D", "/srv/x"})->name, "m");
  EXPECT_EQ(from_keeper(Words{"[lxc monitor] /var/lib/lxc box"})->name, "box");
  EXPECT_EQ(from_keeper(Words{"bwrap", "--unshare-all", "--hostname", "box", "sh"})->name, "box");
  EXPECT_EQ(from_keeper(Words{"bwrap", "--", "x", "--hostname", "y"})->name, "");
  EXPECT_FALSE(from_keeper(Words{"bash"}));
  EXPECT_FALSE(from_keeper(Words{}));
}

TEST(NamesFromKeeper, IgnoresAnOptionWithoutAValue) {
  EXPECT_EQ(from_keeper(std::vector<std::string>{"conmon", "-n"})->name, "");
  EXPECT_EQ(from_keeper(std::vector<std::string>{"conmon", "-c", "nonsense"})->id, "");
}

TEST(NamesToReplace, AreReadFromPodmanCommandsOnly) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(name_to_replace(Words{"podman", "run", "-d", "--replace", "--name", "web", "nginx"}),
            "web");
  EXPECT_EQ(name_to_replace(Words{"/usr/bin/podman", "--log-level=debug", "create",
                                  "--name=systemd-web", "--replace=true", "nginx"}),
            "systemd-web");
  EXPECT_EQ(name_to_replace(Words{"podman", "run", "--name", "web", "nginx"}), "");
  EXPECT_EQ(name_to_replace(Words{"podman", "run", "--replace", "nginx"}), "");
  EXPECT_EQ(name_to_replace(Words{"podman", "rm", "--force", "web"}), "");
  EXPECT_EQ(name_to_replace(Words{"sh", "run", "--replace", "--name", "web"}), "");
  EXPECT_EQ(name_to_replace(Words{}), "");
}

TEST(NamesFromEnvironment, ReadsTheAppOfFlatpak) {
  const std::vector<std::string> words{"HOSTNAME=box", "FLATPAK_ID=org.example.App",
                                       "container=flatpak"};
  EXPECT_EQ(from_environment(words, "").engine, "flatpak");
  EXPECT_EQ(from_environment(words, "").name, "org.example.App");
  const std::vector<std::string> inherited{"HOSTNAME=box", "FLATPAK_ID=org.example.App"};
  EXPECT_EQ(from_environment(inherited, "").name, "box");
}

TEST(NamesFromEnvironment, IgnoresTheNameOfTheHost) {
  const auto words = procfs::split_strings(captured("proc/environ_podman"));
  EXPECT_EQ(from_environment(words, "myhost").engine, "podman");
  EXPECT_TRUE(is_hex_id(from_environment(words, "myhost").name));
  EXPECT_EQ(from_environment(std::vector<std::string>{"HOSTNAME=myhost"}, "myhost").name, "");
}

TEST(NamesPrintable, ReplacesControlCharactersAndInvalidUtf8) {
  EXPECT_EQ(printable("a\nb\x1b[31mc\x7f"), "a?b?[31mc?");
  EXPECT_EQ(printable("h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80"),
            "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80");
  EXPECT_EQ(printable("\xc3"), "?");
  EXPECT_EQ(printable("\xc0\xaf"), "??") << "overlong";
  EXPECT_EQ(printable("\xed\xa0\x80"), "???") << "a surrogate";
  EXPECT_EQ(printable("\xc2\x9b"), "?") << "C1 control";
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "????") << "beyond Unicode";
}

TEST(NamesPrintable, CutsALongNameBetweenCharacters) {
  EXPECT_EQ(printable(std::string(100, 'x')).size(), 64U);
  EXPECT_EQ(printable(std::string(63, 'x') + "\xc3\xa9").size(), 63U);
}

TEST(NamesPlumbing, RecognisesProcessesThatServeTheEngine) {
  for (const char* comm : {"slirp4netns", "pasta", "pasta.avx2", "aardvark-dns", "catatonit",
                           "pause", "runc:[2:INIT]", "crun", "portfwd-broker", "rootlessport-ch"}) {
    EXPECT_TRUE(is_engine_process(comm)) << comm;
  }
  for (const char* comm : {"nginx", "bash", "python3", "podman-init", ""}) {
    EXPECT_FALSE(is_engine_process(comm)) << comm;
  }
}

}  // namespace
}  // namespace portfwd::names
