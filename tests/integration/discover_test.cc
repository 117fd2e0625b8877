// Discovery on real processes in real namespaces, below those of the test run.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/prctl.h>

#include <cstring>
#include <memory>
#include <set>

#include "kernel/netns.h"
#include "support/few_descriptors.h"
#include "support/finder.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::FewDescriptors;
using testing_support::Finder;
using testing_support::Sandbox;

UniqueFd netns_fd(pid_t pid) {
  return UniqueFd(
      ::open(("/proc/" + std::to_string(pid) + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
}

struct DiscoverTest : testing::Test {
  /// Waits for two full scans.
  void look_twice() {
    for (int i = 0; i < 2; ++i) {
      const auto before = finder.discovery.figures().scans;
      finder.discovery.hint();
      EXPECT_TRUE(finder.until([&] { return finder.discovery.figures().scans > before; }));
    }
  }
  Finder finder;
};

TEST_F(DiscoverTest, FindsExistingContainersAtTheStart) {
  const Sandbox sandbox;
  finder.start();
  const Container* container = finder.by_netns(sandbox.netns());
  ASSERT_NE(container, nullptr);
  EXPECT_EQ(container->pid, sandbox.pid());
  EXPECT_EQ(container->uid, ::geteuid());
  EXPECT_EQ(container->inaccessible, "");
  EXPECT_TRUE(container->netns_fd.valid());
}

TEST_F(DiscoverTest, FindsALaterSandboxWithoutAHint) {
  finder.start();
  const Sandbox sandbox;
  const Container* container = finder.wait_for(sandbox.netns());
  ASSERT_NE(container, nullptr);
  EXPECT_EQ(finder.log.added(sandbox.netns()), 1);
}

TEST_F(DiscoverTest, KeepsContainersAndNamesWhileDescriptorsAreShort) {
  Sandbox sandbox;
  finder.start();
  const Container* container = finder.by_netns(sandbox.netns());
  ASSERT_NE(container, nullptr);
  const std::uint64_t netns = container->netns;
  const std::string name = container->name;
  const pid_t second = sandbox.tell(Sandbox::Do::Fork);
  look_twice();
  {
    const UniqueFd lowest(::fcntl(0, F_DUPFD_CLOEXEC, 0));
    FewDescriptors none(lowest.get() + 1);
    ASSERT_FALSE(open_pidfd(::getpid()));
    EXPECT_EQ(finder.proc.comm(sandbox.pid()), finder.proc.comm(::getpid()))
        << "it is a fork of us";
    look_twice();
    EXPECT_EQ(finder.by_netns(netns)->name, name);
    sandbox.end();
    look_twice();
    ASSERT_NE(finder.by_netns(netns), nullptr) << "given up, though a process is left";
  }
  EXPECT_TRUE(finder.until([&] { return finder.by_netns(netns)->pid == second; }));
  EXPECT_EQ(finder.by_netns(netns)->name, name);
  EXPECT_EQ(finder.log.removed(netns), 0);
  EXPECT_EQ(finder.log.added(netns), 1);
}

/// Inside a sandbox, a shell that has the name conmon and keeps a network namespace alive.
int run_false_keeper(const std::string& id) {
  const std::string script = "unshare --net sleep 1000 & wait\n";
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0 || ::unshare(CLONE_NEWPID) != 0) return -1;
  if (::write(ends[1], script.data(), script.size()) < 0) return -1;
  if (::fork() == 0) {
    ::prctl(PR_SET_PDEATHSIG,
            SIGKILL);  // ends its whole pid namespace, since it is the first process
    ::dup2(ends[0], STDIN_FILENO);
    ::close(STDOUT_FILENO);  // a reader of the output must not wait for it
    ::close(STDERR_FILENO);
    ::execl("/bin/sh", "conmon", "-s", "x", "--cid", id.c_str(), "-n", "shop", nullptr);
    ::_exit(127);
  }
  return 0;
}

TEST_F(DiscoverTest, BelievesNoKeeperThatRunsInASandbox) {
  const Sandbox sandbox(Sandbox::kUserAndNet,
                        [] { return run_false_keeper(std::string(64, 'a')); });
  ASSERT_EQ(sandbox.answer(), 0);
  finder.start();
  const Container* inner = nullptr;
  ASSERT_TRUE(finder.until([&] {
    for (const Container* container : finder.registry.containers()) {
      if (finder.proc.comm(container->pid) == "sleep") inner = container;
    }
    return inner != nullptr;
  }));
  EXPECT_NE(inner->netns, sandbox.netns());
  EXPECT_EQ(inner->engine_id, "");
  EXPECT_EQ(inner->engine, "");
  EXPECT_TRUE(inner->name.starts_with("sleep-")) << inner->name;
}

TEST_F(DiscoverTest, FindsAProcessThatUnsharesAfterItsFirstCheck) {
  Sandbox late(0);
  finder.start();
  EXPECT_EQ(finder.by_netns(late.netns()), nullptr) << "it still is in our own namespace";
  ASSERT_EQ(late.tell(Sandbox::Do::Unshare), 0);
  EXPECT_NE(finder.wait_for(late.netns()), nullptr);
}

TEST_F(DiscoverTest, RemovesAContainerWhenItsLastProcessExits) {
  Sandbox sandbox;
  finder.start();
  const std::uint64_t netns = sandbox.netns();
  sandbox.end();
  ASSERT_TRUE(finder.wait_gone(netns));  // how soon: tests/bench/latency_bench
  EXPECT_EQ(finder.log.lines.back().reason, RemovalReason::Gone);
}

TEST_F(DiscoverTest, RemovesAContainerOfWhichOnlyAZombieIsLeft) {
  Sandbox sandbox;
  finder.start();
  const std::uint64_t netns = sandbox.netns();
  sandbox.end(false);
  EXPECT_TRUE(finder.wait_gone(netns));
}

TEST_F(DiscoverTest, KeepsAContainerWhenItsFirstProcessExits) {
  Sandbox sandbox;
  const int second = sandbox.tell(Sandbox::Do::Fork);
  finder.start();
  const std::uint64_t netns = sandbox.netns();
  ASSERT_EQ(finder.by_netns(netns)->pid, sandbox.pid());
  const std::string id = finder.by_netns(netns)->id;
  sandbox.end();
  ASSERT_TRUE(finder.until([&] { return finder.by_netns(netns)->pid == second; }));
  EXPECT_EQ(finder.by_netns(netns)->id, id);
  EXPECT_EQ(finder.log.removed(netns), 0);
  ::kill(second, SIGKILL);
  EXPECT_TRUE(finder.wait_gone(netns));
}

TEST_F(DiscoverTest, FindsANewAnchorThatNoScanHasSeen) {
  Sandbox sandbox;
  finder.start();
  const std::uint64_t netns = sandbox.netns();
  const int second = sandbox.tell(Sandbox::Do::Fork);
  sandbox.end();
  ASSERT_TRUE(finder.until([&] { return finder.by_netns(netns)->pid == second; }));
  EXPECT_EQ(finder.log.removed(netns), 0);
}

TEST_F(DiscoverTest, AddsANamespaceBelowAnInnerUserNamespace) {
  const Sandbox outer(Sandbox::kUserAndNet, [] { return (new Sandbox)->pid(); });
  finder.start();
  EXPECT_NE(finder.by_netns(outer.netns()), nullptr);
  const Container* inner = finder.by_netns(testing_support::netns_of(outer.answer()));
  ASSERT_NE(inner, nullptr);
  EXPECT_EQ(inner->pid, outer.answer());
}

TEST_F(DiscoverTest, ScansFewTimesWhenManyContainersEndTogether) {
  std::vector<std::unique_ptr<Sandbox>> many;
  std::set<std::uint64_t> inodes;
  for (int i = 0; i < 40; ++i) {
    inodes.insert(many.emplace_back(std::make_unique<Sandbox>())->netns());
  }
  finder.start();
  const auto scans = finder.discovery.figures().scans;
  many.clear();
  for (const auto inode : inodes) EXPECT_TRUE(finder.wait_gone(inode));
  EXPECT_LT(finder.discovery.figures().scans - scans, inodes.size() / 2);
}

TEST_F(DiscoverTest, AnIdIsNeverUsedTwice) {
  finder.start();
  std::set<std::string> ids;
  for (int i = 0; i < 10; ++i) {
    Sandbox sandbox;
    finder.discovery.hint();
    const Container* container = finder.wait_for(sandbox.netns());
    ASSERT_NE(container, nullptr);
    EXPECT_TRUE(ids.insert(container->id).second);
    const std::uint64_t netns = sandbox.netns();
    sandbox.end();
    ASSERT_TRUE(finder.wait_gone(netns));
  }
}

TEST_F(DiscoverTest, KeepsTheIdOfAContainerAcrossARestart) {
  const Sandbox same;
  const Sandbox other;  // the daemon knows an earlier container with this namespace's inode
  finder.start();
  ASSERT_NE(finder.wait_for(same.netns()), nullptr);
  ASSERT_NE(finder.wait_for(other.netns()), nullptr);
  const std::string id = finder.by_netns(same.netns())->id;
  std::vector<KnownContainer> known = finder.registry.known();
  for (KnownContainer& container : known) {
    EXPECT_GT(container.started, 0U) << container.name;
    if (container.netns == other.netns()) ++container.started;
  }
  Finder next;
  next.registry.ids().restore({.containers = known, .next = finder.registry.ids().next_number()},
                              true);
  next.start();
  const Container* again = next.wait_for(same.netns());
  const Container* not_again = next.wait_for(other.netns());
  ASSERT_TRUE(again != nullptr && not_again != nullptr);
  EXPECT_EQ(again->id, id);
  EXPECT_TRUE(again->recalled);
  EXPECT_FALSE(not_again->recalled);
  for (const KnownContainer& container : known) EXPECT_NE(not_again->id, container.id);
  ASSERT_EQ(next.registry.ids().former().size(), 1U);
  EXPECT_EQ(next.registry.ids().former()[0].netns, other.netns());
}

TEST_F(DiscoverTest, UpdatesTheNameWhenARecentContainerExecutesItsProgram) {
  Sandbox sandbox;
  finder.start();
  const Container* container = finder.by_netns(sandbox.netns());
  EXPECT_EQ(container->name, names::from_program(finder.proc.comm(sandbox.pid()), sandbox.pid()));
  sandbox.tell(Sandbox::Do::Exec);
  const std::string wanted = "sleep-" + std::to_string(sandbox.pid());
  EXPECT_TRUE(finder.until([&] { return container->name == wanted; })) << container->name;
}

TEST_F(DiscoverTest, AddsNoContainerForTheDaemonsProcesses) {
  const Sandbox sandbox;
  Finder other({.is_ours = [&](pid_t pid) { return pid == sandbox.pid(); }});
  other.start();
  EXPECT_EQ(other.by_netns(sandbox.netns()), nullptr);
}

TEST_F(DiscoverTest, AddsNoContainerForTheDaemonsNamespace) {
  finder.start();
  EXPECT_EQ(finder.by_netns(testing_support::netns_of(::getpid())), nullptr);
}

TEST_F(DiscoverTest, ListsTheProcessesOfANamespace) {
  Sandbox sandbox;
  const int second = sandbox.tell(Sandbox::Do::Fork);
  finder.start();
  EXPECT_EQ(finder.discovery.processes_in(sandbox.netns()),
            (std::vector<pid_t>{sandbox.pid(), second}));
}

TEST_F(DiscoverTest, DoesNotAddADetachedContainerAgain) {
  Sandbox sandbox;
  finder.start();
  const std::uint64_t netns = sandbox.netns();
  ASSERT_TRUE(finder.registry.detach(finder.by_netns(netns)->id));
  EXPECT_EQ(finder.log.lines.back().reason, RemovalReason::Detached);
  look_twice();
  EXPECT_EQ(finder.by_netns(netns), nullptr);
  EXPECT_EQ(finder.log.added(netns), 1);
  ASSERT_TRUE(finder.attach.attach_pid(sandbox.pid(), "again")) << "unless it is asked for";
  EXPECT_EQ(finder.by_netns(netns)->name, "again");
  sandbox.end();
  EXPECT_TRUE(finder.wait_gone(netns));
}

TEST_F(DiscoverTest, AttachesAProcessUnderTheGivenName) {
  const Sandbox sandbox;
  const auto attached = finder.attach.attach_pid(sandbox.pid(), "mine");
  ASSERT_TRUE(attached) << attached.error().text;
  EXPECT_EQ((*attached)->name, "mine");
  EXPECT_TRUE((*attached)->attached);
  finder.start();
  EXPECT_EQ(finder.by_netns(sandbox.netns())->name, "mine") << "discovery does not rename it";
  EXPECT_EQ(finder.log.added(sandbox.netns()), 1);
}

TEST_F(DiscoverTest, KeepsAnAttachedDescriptorUntilItIsDetached) {
  Sandbox sandbox;
  UniqueFd fd = netns_fd(sandbox.pid());
  const std::uint64_t netns = sandbox.netns();
  sandbox.end();
  const auto attached = finder.attach.attach_netns(std::move(fd), "");
  ASSERT_TRUE(attached) << attached.error().text;
  EXPECT_EQ((*attached)->name, "netns-" + std::to_string(netns));
  finder.start();
  look_twice();
  ASSERT_NE(finder.by_netns(netns), nullptr);
  EXPECT_TRUE(finder.registry.detach((*attached)->id));
  EXPECT_EQ(finder.by_netns(netns), nullptr);
}

/// A mount namespace of the test, in which named network namespaces are added and removed.
struct NamedNetnsTest : testing::Test {
  NamedNetnsTest() {
    EXPECT_EQ(::unshare(CLONE_NEWNS), 0) << std::strerror(errno);
    EXPECT_EQ(::mount("none", "/tmp", "tmpfs", 0, nullptr), 0) << std::strerror(errno);
  }
  ~NamedNetnsTest() override { ::umount2("/tmp", MNT_DETACH); }
  /// Names a network namespace, as `ip netns attach` does.
  static void give_name(const Sandbox& sandbox, const std::string& path) {
    const std::string netns = "/proc/" + std::to_string(sandbox.pid()) + "/ns/net";
    EXPECT_TRUE(UniqueFd(::open(path.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC, 0600)).valid());
    EXPECT_EQ(::mount(netns.c_str(), path.c_str(), nullptr, MS_BIND, nullptr), 0)
        << std::strerror(errno);
  }
};

TEST_F(NamedNetnsTest, KeepsANamedNamespaceWithoutProcessesUntilItIsUnmounted) {
  Finder finder({.netns_folder = "/tmp"});
  finder.start();
  Sandbox sandbox;
  const std::uint64_t netns = sandbox.netns();
  give_name(sandbox, "/tmp/blue");
  ASSERT_TRUE(finder.until([&] {
    const Container* container = finder.by_netns(netns);
    return container != nullptr && container->name == "blue";
  }));
  EXPECT_EQ(finder.by_netns(netns)->engine, "netns");
  EXPECT_EQ(finder.by_netns(netns)->path, "/tmp/blue");
  sandbox.end();
  ASSERT_TRUE(finder.until([&] { return finder.by_netns(netns)->pid == 0; }));
  EXPECT_EQ(finder.log.removed(netns), 0);
  EXPECT_EQ(::umount2("/tmp/blue", MNT_DETACH), 0);  // as `ip netns delete` does
  EXPECT_TRUE(finder.wait_gone(netns));
}

TEST_F(NamedNetnsTest, FindsANamedNamespaceAtTheStartAndAProcessThatEntersIt) {
  Sandbox sandbox;
  const std::uint64_t netns = sandbox.netns();
  give_name(sandbox, "/tmp/blue");
  const int second = sandbox.tell(Sandbox::Do::Fork);
  Finder finder({.is_ours = [&](pid_t pid) { return pid == sandbox.pid() || pid == second; },
                 .netns_folder = "/tmp"});
  finder.start();
  ASSERT_NE(finder.by_netns(netns), nullptr);
  EXPECT_EQ(finder.by_netns(netns)->pid, 0);
  const int third = sandbox.tell(Sandbox::Do::Fork);
  EXPECT_TRUE(finder.until([&] { return finder.by_netns(netns)->pid == third; }));
  EXPECT_GE(finder.log.count(testing_support::RegistryLog::Line::What::Changed, netns), 1);
  ::umount("/tmp/blue");
}

TEST_F(NamedNetnsTest, FindsThePathOfAnAttachedDescriptor) {
  Finder finder({.netns_folder = "/nowhere"});
  finder.start();
  Sandbox sandbox;
  const std::uint64_t netns = sandbox.netns();
  give_name(sandbox, "/tmp/red");
  const auto attached = finder.attach.attach_netns(netns_fd(sandbox.pid()), "");
  ASSERT_TRUE(attached) << attached.error().text;
  EXPECT_EQ((*attached)->path, "/tmp/red");
  sandbox.end();
  ASSERT_TRUE(finder.until([&] { return finder.by_netns(netns)->pid == 0; }));
  EXPECT_EQ(::umount("/tmp/red"), 0);
  EXPECT_TRUE(finder.wait_gone(netns)) << "it lasts until its path is gone";
}

TEST_F(DiscoverTest, ResolvesAContainerByNameIdOrPrefixOfAnId) {
  const Sandbox one, two, three;
  Registry& registry = finder.registry;
  AttachRequests& attach = finder.attach;
  const std::string id = (*attach.attach_pid(one.pid(), "web"))->id;
  ASSERT_TRUE(attach.attach_pid(two.pid(), "db"));
  EXPECT_EQ((*registry.resolve("web"))->id, id);
  EXPECT_EQ((*registry.resolve(id))->name, "web");
  EXPECT_EQ(registry.resolve("n").error().kind, Refusal::Kind::Ambiguous);
  EXPECT_EQ(registry.resolve("nobody").error().kind, Refusal::Kind::NoSuchContainer);
  EXPECT_EQ(registry.resolve("").error().kind, Refusal::Kind::InvalidArgument);
  ASSERT_TRUE(attach.attach_pid(three.pid(), "web"));
  EXPECT_EQ(registry.resolve("web").error().kind, Refusal::Kind::Ambiguous);
  EXPECT_EQ((*registry.resolve(id))->netns, one.netns()) << "an id is always clear";
}

TEST_F(DiscoverTest, RejectsInvalidAttachRequestsWithAReason) {
  Sandbox gone;
  const pid_t pid = gone.pid();
  gone.end();
  using Kind = Refusal::Kind;
  Registry& registry = finder.registry;
  AttachRequests& attach = finder.attach;
  EXPECT_EQ(attach.attach_pid(pid, "").error().kind, Kind::InvalidArgument);
  EXPECT_EQ(attach.attach_pid(0, "").error().kind, Kind::InvalidArgument);
  EXPECT_EQ(attach.attach_pid(-1, "").error().kind, Kind::InvalidArgument);
  EXPECT_EQ(attach.attach_pid(::getpid(), "").error().kind, Kind::InvalidArgument);
  EXPECT_EQ(attach.attach_pid(1, "").error().kind, Kind::Inaccessible);
  const auto attach_file = [&](const char* path) {
    return attach.attach_netns(UniqueFd(::open(path, O_RDONLY | O_CLOEXEC)), "").error().kind;
  };
  EXPECT_EQ(attach_file("/dev/null"), Kind::InvalidArgument);
  EXPECT_EQ(attach_file("/proc/self/ns/user"), Kind::InvalidArgument);
  EXPECT_EQ(attach_file("/proc/self/ns/net"), Kind::InvalidArgument);
  EXPECT_EQ(registry.detach("nobody").error().kind, Kind::NoSuchContainer);
}

}  // namespace
}  // namespace portfwd
