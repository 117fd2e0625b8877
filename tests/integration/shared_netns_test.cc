// Several containers in one network namespace, as in a pod: which processes belong to which
// container.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "support/finder.h"
#include "support/kept_process.h"

namespace portfwd {
namespace {

using testing_support::Finder;
using testing_support::KeptProcess;
using testing_support::Sandbox;

struct SharedNetnsTest : testing::Test {
  std::map<std::string, const Container*> by_name() {
    std::map<std::string, const Container*> all;
    for (const Container* container : finder.registry.containers()) {
      if (container->netns == netns) all[container->name] = container;
    }
    return all;
  }
  std::vector<std::string> names() {
    std::vector<std::string> all;
    for (const auto& [name, container] : by_name()) all.push_back(name);
    return all;
  }
  bool until_names_are(const std::vector<std::string>& wanted) {
    return finder.until([&] { return names() == wanted; });
  }

  const std::string id_a = std::string(64, 'a'), id_b = std::string(64, 'b');
  Sandbox sandbox;
  const std::uint64_t netns = sandbox.netns();
  Finder finder;
};

TEST_F(SharedNetnsTest, TwoContainersOfAnEngineAreTwoContainers) {
  KeptProcess a(sandbox, id_a, "web"), b(sandbox, id_b, "db");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_names_are({"db", "web"})) << testing::PrintToString(names());
  const auto all = by_name();
  EXPECT_EQ(all.at("web")->engine, "podman");
  EXPECT_EQ(all.at("web")->engine_id, id_a);
  EXPECT_EQ(all.at("web")->id, "aaaaaaaaaaaa");
  EXPECT_EQ(all.at("web")->pid, a.pid());
  EXPECT_EQ(all.at("db")->pid, b.pid());
  EXPECT_TRUE(all.at("db")->netns_fd.valid());
  EXPECT_NE(all.at("db")->cgroup_id, 0U);
  a.end();
  EXPECT_TRUE(until_names_are({"db"}));
  EXPECT_EQ(finder.log.removed(netns), 1);
}

TEST_F(SharedNetnsTest, AContainerThatComesLaterIsFoundBesideTheFirst) {
  const KeptProcess a(sandbox, id_a, "web");
  finder.start();
  ASSERT_TRUE(until_names_are({"web"})) << "the sandbox itself is of no engine";
  const KeptProcess b(sandbox, id_b, "db");
  EXPECT_TRUE(until_names_are({"db", "web"})) << testing::PrintToString(names());
}

TEST_F(SharedNetnsTest, AnEnginesContainerMayJoinASandboxThatIsKnown) {
  finder.start();
  ASSERT_EQ(names().size(), 1U);
  KeptProcess a(sandbox, id_a, "web");
  EXPECT_TRUE(finder.until([&] { return by_name().contains("web"); }));
  EXPECT_EQ(names().size(), 2U);
  a.end();
  EXPECT_TRUE(finder.until([&] { return !by_name().contains("web"); }));
  EXPECT_EQ(names().size(), 1U);
}

TEST_F(SharedNetnsTest, AProcessOfNoEngineBelongsToTheFirst) {
  KeptProcess a(sandbox, id_a, "web");
  const KeptProcess visitor(sandbox, "", "");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_names_are({"web"})) << testing::PrintToString(names());
  a.end();
  EXPECT_TRUE(finder.until([&] {
    const auto all = by_name();
    return all.contains("web") && all.at("web")->pid != a.pid();
  }));
  EXPECT_EQ(finder.log.removed(netns), 0);
}

}  // namespace
}  // namespace portfwd
