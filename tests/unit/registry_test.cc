// Registry: entries, anchors and removals. The processes are real, the namespaces are only numbers.
#include "discover/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "support/manual_clock.h"
#include "support/registry_log.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing_support::RegistryLog;
using What = RegistryLog::Line::What;

constexpr std::uint64_t kNetns = 77;
const std::string kWeb(64, 'a');
const std::string kDb(64, 'b');

/// A child that waits until it is killed.
struct Child {
  Child() : pid(::fork()) {
    if (pid == 0) {
      for (;;) ::pause();
    }
    pidfd = open_pidfd(pid).value_or(UniqueFd());
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() { end(); }
  void end() {
    if (pid == 0) return;
    ::kill(pid, SIGKILL);
    ::waitpid(std::exchange(pid, 0), nullptr, 0);
  }
  pid_t pid;
  UniqueFd pidfd;
};

struct RegistryTest : testing::Test {
  RegistryTest() {
    registry.add_observer(log);
    registry.set_on_orphan([this] { ++orphaned; });
  }
  ~RegistryTest() override { registry.remove_observer(log); }

  /// Adds a container in namespace kNetns with `child` as its anchor.
  const Container* add(Child& child, const std::string& engine_id, const std::string& name) {
    DiscoveredContainer found;
    found.pid = child.pid;
    found.pidfd = std::move(child.pidfd);
    found.net_files = kNetns;
    found.identity = {engine_id.empty() ? "" : "docker", engine_id, name};
    return registry.add(std::move(found));
  }
  void end(Child& child) {
    child.end();
    ASSERT_TRUE(loop.turn(20s));
  }
  [[nodiscard]] std::vector<What> happened() const {
    std::vector<What> out;
    for (const RegistryLog::Line& line : log.lines) out.push_back(line.what);
    return out;
  }

  testing_support::ManualClock clock;
  EventLoop loop{clock};
  ProcDir proc;
  Registry registry{loop, proc};
  RegistryLog log;
  int orphaned = 0;
};

TEST_F(RegistryTest, AddsAContainerOnce) {
  Child one, two;
  ASSERT_NE(add(one, kWeb, "web"), nullptr);
  EXPECT_EQ(add(two, kWeb, "web"), nullptr);
  EXPECT_EQ(registry.containers().size(), 1U);
}

TEST_F(RegistryTest, KeepsAnOrphanUntilRemoveDead) {
  Child child;
  const std::string id = add(child, kWeb, "web")->id;
  end(child);
  EXPECT_EQ(orphaned, 1);
  EXPECT_THAT(registry.index().orphans(), ElementsAre(ContainerKey{kNetns, kWeb}));
  EXPECT_NE(registry.find(id), nullptr);
  registry.remove_dead({kNetns, kWeb});
  EXPECT_EQ(registry.find(id), nullptr);
  EXPECT_THAT(happened(), ElementsAre(What::Added, What::Removed));
  EXPECT_EQ(log.lines.back().reason, RemovalReason::Gone);
}

TEST_F(RegistryTest, KeepsAContainerWhoseAnchorIsReplaced) {
  Child first, second;
  const std::string id = add(first, kWeb, "web")->id;
  const pid_t pid = second.pid;
  end(first);
  registry.replace_anchor({kNetns, kWeb}, pid, std::move(second.pidfd));
  EXPECT_THAT(registry.index().orphans(), IsEmpty());
  EXPECT_EQ(registry.find(id)->pid, pid);
  EXPECT_THAT(happened(), ElementsAre(What::Added, What::Changed));
  end(second);
  EXPECT_EQ(orphaned, 2) << "the new anchor is watched as well";
}

TEST_F(RegistryTest, MakesAnOrphanWhenTheAnchorLeaves) {
  Child child;
  ASSERT_NE(add(child, kWeb, "web"), nullptr);
  registry.drop_anchor({kNetns, kWeb});
  EXPECT_EQ(registry.index().anchor_of({kNetns, kWeb}), 0);
  EXPECT_THAT(registry.index().orphans(), ElementsAre(ContainerKey{kNetns, kWeb}));
  EXPECT_EQ(orphaned, 0) << "drop_anchor() does not notify";
}

TEST_F(RegistryTest, RemovesAContainerWithItsAnchorWithoutASearchForAnother) {
  registry.set_on_orphan({});
  Child child;
  ASSERT_NE(add(child, kWeb, "web"), nullptr);
  end(child);
  EXPECT_THAT(registry.containers(), IsEmpty());
}

TEST_F(RegistryTest, HidesADetachedContainerUntilItsAnchorExits) {
  Child child, again;
  const std::string id = add(child, kWeb, "web")->id;
  ASSERT_TRUE(registry.detach(id));
  EXPECT_THAT(registry.containers(), IsEmpty());
  EXPECT_EQ(log.lines.back().reason, RemovalReason::Detached);
  EXPECT_EQ(add(again, kWeb, "web"), nullptr) << "it is already known";
  end(child);
  registry.remove_dead({kNetns, kWeb});
  EXPECT_THAT(happened(), ElementsAre(What::Added, What::Removed)) << "once";
}

TEST_F(RegistryTest, ReportsARemovalAsReplacedWhileASuccessorIsExpected) {
  Child web, db;
  ASSERT_NE(add(web, kWeb, "web"), nullptr);
  ASSERT_NE(add(db, kDb, "db"), nullptr);
  registry.expect_successor("docker", "web");
  registry.expect_successor("docker", kDb.substr(0, 12));
  end(web);
  registry.remove_dead({kNetns, kWeb});
  EXPECT_EQ(log.lines.back().reason, RemovalReason::Replaced);
  clock.advance(61s);
  end(db);
  registry.remove_dead({kNetns, kDb});
  EXPECT_EQ(log.lines.back().reason, RemovalReason::Gone)
      << "the successor is expected for a minute only";
}

TEST_F(RegistryTest, AssignsProcessesWithoutAnIdToTheFirstContainerOfTheNamespace) {
  Child db, web;
  ASSERT_NE(add(db, kDb, "db"), nullptr);
  ASSERT_NE(add(web, kWeb, "web"), nullptr);  // its id sorts before that of the first one
  const ContainerIndex& index = registry.index();
  EXPECT_EQ(index.key_for({kNetns, ""}), (ContainerKey{kNetns, kDb}));
  EXPECT_EQ(index.key_for({kNetns, kWeb}), (ContainerKey{kNetns, kWeb}));
  EXPECT_EQ(index.key_for({kNetns + 1, ""}), (ContainerKey{kNetns + 1, ""}));
  EXPECT_EQ(index.key_for({kNetns + 1, kWeb}), (ContainerKey{kNetns + 1, ""}))
      << "a sandbox of that container";
  const std::string other(64, 'c');
  EXPECT_EQ(index.key_for({kNetns, other}), (ContainerKey{kNetns, other}))
      << "a container that is not known";
}

TEST_F(RegistryTest, MakesANewIdForARestartedContainer) {
  Child first, second;
  const std::string id = add(first, kWeb, "web")->id;
  end(first);
  registry.remove_dead({kNetns, kWeb});
  const Container* again = add(second, kWeb, "web");
  ASSERT_NE(again, nullptr);
  EXPECT_NE(again->id, id);
}

TEST_F(RegistryTest, KeepsAFinalName) {
  Child child;
  const std::string id = add(child, "", "python3-7")->id;
  registry.identify({kNetns, ""}, {"", "", "sleep-7"});
  EXPECT_EQ(registry.find(id)->name, "sleep-7");
  registry.fix_name(id);
  registry.identify({kNetns, ""}, {"", "", "nginx-7"});
  EXPECT_EQ(registry.find(id)->name, "sleep-7");
  registry.identify({kNetns, ""}, {"docker", kWeb, "web"});
  EXPECT_EQ(registry.find(id)->name, "web") << "renamed when its engine became known";
  registry.update(kWeb, [](ContainerEntry& entry) { return entry.rename_by_engine("shop"); });
  registry.identify({kNetns, kWeb}, {"docker", kWeb, "web"});
  EXPECT_EQ(registry.find(id)->name, "shop");
}

/// As root attaches a container by the path that its engine gave the namespace.
TEST_F(RegistryTest, RemovesAnEnginesContainerThatWasAttachedByItsPathWhenThatIsGone) {
  const auto netns = [] { return *Netns::open("/proc/self/ns/net"); };
  const std::string path = "/run/docker/netns/web";
  Child child;
  DiscoveredContainer found;
  found.pid = child.pid;
  found.pidfd = std::move(child.pidfd);
  found.netns = netns();
  found.identity = {"docker", kWeb, "web"};
  const std::string id = registry.add(std::move(found))->id;
  registry.set_paths({{netns().inode(), path}});
  EXPECT_EQ(registry.find(id)->path, "") << "nobody has attached it";

  DiscoveredContainer attached;
  attached.netns = netns();
  attached.path = path;
  attached.identity.engine_id = kWeb;
  (void)registry.attach(std::move(attached), "");
  registry.set_paths({{netns().inode(), path}});
  EXPECT_EQ(registry.find(id)->path, path);
  end(child);
  registry.remove_dead({netns().inode(), kWeb});
  ASSERT_NE(registry.find(id), nullptr) << "the path holds it";
  registry.set_paths({});
  EXPECT_EQ(registry.find(id), nullptr);
}

/// Whether the container waits for its labels depends on the engine.
TEST_F(RegistryTest, NotifiesOfAnEngineThatBecomesKnownWithItsName) {
  struct Observer final : RegistryObserver {
    void on_container_added(const Container&) override {}
    void on_container_changed(const Container&) override {}
    void on_container_removed(const Container&, RemovalReason) override {}
    void on_sign_of_life(const Container&) override {}
    void on_engine_known(ContainerEntry& entry) override { engine = entry.container.engine; }
    std::string engine;
  } observer;
  registry.add_observer(observer);
  Child child;
  (void)add(child, "", "python3-7");
  registry.identify({kNetns, ""}, {"docker", kWeb, "web"});
  EXPECT_EQ(observer.engine, "docker");
  registry.remove_observer(observer);
}

}  // namespace
}  // namespace portfwd
