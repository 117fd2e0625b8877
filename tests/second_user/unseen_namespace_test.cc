// Discovery of namespaces that an ordinary user cannot see: root has made them, and no engine's
// name reveals them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/prctl.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/finder.h"
#include "support/manual_clock.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using namespace testing_support;

constexpr uid_t kDaemon = 61001;
constexpr uid_t kOther = 61002;

/// Acts as the daemon's user, without capabilities, while this object exists. The test runs as
/// root.
struct AsUser {
  AsUser() { EXPECT_EQ(::seteuid(kDaemon), 0); }
  ~AsUser() { EXPECT_EQ(::seteuid(0), 0); }
};

struct UnseenNamespaceTest : testing::Test {
  const Container* of(pid_t pid) {
    for (const Container* container : finder->registry.containers()) {
      if (container->pid == pid) return container;
    }
    return nullptr;
  }
  const Container* wait_for(pid_t pid) {
    finder->until([&] { return of(pid) != nullptr; });
    return of(pid);
  }

  Sandbox roots{CLONE_NEWNET};
  AsUser user;
  std::unique_ptr<Finder> finder = std::make_unique<Finder>();
};

TEST_F(UnseenNamespaceTest, OneOfRootsIsFoundAndCannotBeEntered) {
  finder->start();
  const Container* found = wait_for(roots.pid());
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->netns, 0U);
  EXPECT_EQ(found->uid, 0U);
  EXPECT_NE(found->inaccessible, "");
}

/// In simulated time: an inaccessible namespace must exist for a while before it is reported.
struct UnseenForAMomentTest : testing::Test {
  using Process = std::unique_ptr<Sandbox>;

  /// Starts a process of root in `netns`, which exists without any process.
  static Process enter(const UniqueFd& netns) {
    EXPECT_EQ(::seteuid(0), 0);
    auto process = std::make_unique<Sandbox>(
        0, [&] { return ::setns(netns.get(), CLONE_NEWNET) == 0 ? 0 : errno; });
    EXPECT_EQ(process->answer(), 0);
    EXPECT_EQ(::seteuid(kDaemon), 0);
    return process;
  }
  static void end(Process process) {
    EXPECT_EQ(::seteuid(0), 0);
    process.reset();
    EXPECT_EQ(::seteuid(kDaemon), 0);
  }
  static UniqueFd roots_namespace() {
    const Sandbox maker{CLONE_NEWNET};
    const std::string path = "/proc/" + std::to_string(maker.pid()) + "/ns/net";
    return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  }
  bool listed(const Process& process) {
    return std::ranges::any_of(finder.registry.containers(), [&](const Container* container) {
      return container->pid == process->pid();
    });
  }
  void pass(Duration time) {
    for (Duration left = time; left > Duration::zero(); left -= kStep) {
      finder.clock.advance(kStep);
      (void)finder.loop.turn(std::chrono::milliseconds(2));
    }
  }
  /// The time until the container is listed, rounded up to kStep.
  Duration time_until_listed(const Process& process) {
    const TimePoint began = finder.clock.now();
    EXPECT_TRUE(finder.until([&] {
      pass(kStep);
      return listed(process);
    }));
    return finder.clock.now() - began;
  }

  static constexpr Duration kStep = std::chrono::milliseconds(5);
  static constexpr Duration kStays = std::chrono::milliseconds(250);
  UniqueFd netns = roots_namespace();
  AsUser user;
  FinderBy<ManualClock> finder;
};

TEST_F(UnseenForAMomentTest, IsReportedAfterAMinimumTime) {
  finder.start();
  const Process process = enter(netns);
  finder.discovery.hint();
  EXPECT_GE(time_until_listed(process), kStays);
}

TEST_F(UnseenForAMomentTest, IsNotReportedAfterShortAppearances) {
  finder.start();
  for (int time = 0; time < 3; ++time) {
    Process process = enter(netns);
    finder.discovery.hint();
    pass(std::chrono::milliseconds(150));
    EXPECT_FALSE(listed(process));
    end(std::move(process));
    pass(std::chrono::seconds(2));
  }
  const Process process = enter(netns);
  finder.discovery.hint();
  EXPECT_GE(time_until_listed(process), kStays) << "which is as new as the first time";
}

/// A cgroup as a container of root's docker has it, while this object exists.
class DockerCgroup {
 public:
  DockerCgroup() { std::filesystem::create_directories(folder_); }
  ~DockerCgroup() {
    std::error_code ignored;
    std::filesystem::remove(folder_, ignored);
    std::filesystem::remove(folder_.parent_path(), ignored);  // unless it has others
  }
  [[nodiscard]] bool take(pid_t pid) const {
    std::ofstream(folder_ / "cgroup.procs") << pid << std::flush;
    std::stringstream now;
    now << std::ifstream("/proc/" + std::to_string(pid) + "/cgroup").rdbuf();
    return now.str().contains(folder_.filename().native());
  }

 private:
  static std::filesystem::path root() {
    const std::filesystem::path hybrid = "/sys/fs/cgroup/unified";
    return exists(hybrid) ? hybrid : hybrid.parent_path();
  }
  std::filesystem::path folder_ = root() / "docker" / fmt::format("{:064x}", ::getpid());
};

/// As with `docker run --user`: the namespace is root's, and can be seen but not entered.
TEST_F(UnseenForAMomentTest, IsReportedAtOnceWhenRootsEngineMadeIt) {
  finder.start();
  ASSERT_EQ(::seteuid(0), 0);
  const DockerCgroup cgroup;
  Process process = std::make_unique<Sandbox>(0, [&] {
    if (!cgroup.take(::getpid())) return EINVAL;
    if (::setns(netns.get(), CLONE_NEWNET) != 0) return errno;
    if (::setresuid(kDaemon, kDaemon, kDaemon) != 0) return errno;
    return ::prctl(PR_SET_DUMPABLE, 1) == 0 ? 0 : errno;
  });
  ASSERT_EQ(process->answer(), 0);
  ASSERT_EQ(::seteuid(kDaemon), 0);
  finder.discovery.hint();
  EXPECT_LT(time_until_listed(process), kStays);
  end(std::move(process));
  ASSERT_EQ(::seteuid(0), 0);  // to remove the cgroup
}

/// A namespace that another ordinary user has made.
struct ForeignNamespaceTest : testing::Test {
  static std::unique_ptr<Sandbox> made_by(uid_t uid) {
    EXPECT_EQ(::seteuid(uid), 0);
    EXPECT_EQ(::prctl(PR_SET_DUMPABLE, 1), 0);  // so that it can write its own id map
    auto sandbox = std::make_unique<Sandbox>();
    EXPECT_EQ(::seteuid(0), 0);
    return sandbox;
  }
  std::unique_ptr<Sandbox> others = made_by(kOther);
  Sandbox roots{CLONE_NEWNET};
  AsUser user;
  Finder finder;
};

TEST_F(ForeignNamespaceTest, IsCountedAndOtherwiseInvisible) {
  finder.start();
  const auto pid_known = [&](pid_t pid) {
    return std::ranges::any_of(finder.registry.containers(),
                               [pid](const Container* c) { return c->pid == pid; });
  };
  ASSERT_TRUE(finder.until([&] { return pid_known(roots.pid()); })) << "which is looked at later";
  EXPECT_FALSE(pid_known(others->pid()));
  EXPECT_GE(finder.discovery.figures().foreign_namespaces, 1U);
  for (const auto& line : finder.log.lines) EXPECT_EQ(line.netns, 0U);
}

TEST_F(UnseenNamespaceTest, ItsProcessesAreOneContainerUntilTheLastHasGone) {
  const pid_t second = roots.tell(Sandbox::Do::Fork);
  finder->start();
  ASSERT_NE(wait_for(roots.pid()), nullptr);
  EXPECT_EQ(of(second), nullptr);
  const std::string id = of(roots.pid())->id;
  ASSERT_EQ(::seteuid(0), 0);  // to kill root's process
  roots.end();
  ASSERT_EQ(::seteuid(kDaemon), 0);
  const Container* left = wait_for(second);
  ASSERT_NE(left, nullptr);
  EXPECT_EQ(left->id, id);
}

TEST_F(UnseenNamespaceTest, RootsProcessesOnTheHostsNetworkAreNone) {
  const Sandbox beside(0);
  finder->start();
  ASSERT_NE(wait_for(roots.pid()), nullptr);
  EXPECT_EQ(of(beside.pid()), nullptr);
}

}  // namespace
}  // namespace portfwd
