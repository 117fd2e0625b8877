// Ids of containers, within one run of the daemon and across a restart.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "discover/identity.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kEngineId = "a1b2c3d4e5f60718293a4b5c6d7e8f90";

KnownContainer engines(std::uint64_t netns = 4026532281) {
  return {.id = "a1b2c3d4e5f6", .engine_id = kEngineId, .netns = netns, .pid = 10, .started = 100};
}
KnownContainer sandbox() {
  return {.id = "n7", .netns = 4026532282, .pid = 20, .started = 200};
}

TEST(ContainerIds, AreAPrefixOfTheEngineIdOnce) {
  ContainerIds ids;
  EXPECT_EQ(ids.make(kEngineId), "a1b2c3d4e5f6");
  EXPECT_EQ(ids.make(""), "n1");
  EXPECT_EQ(ids.make(kEngineId), "a1b2c3d4e5f6-2") << "it was restarted";
  EXPECT_EQ(ids.make("no hex"), "n3");
}

TEST(ContainerIds, AreRecalledByEngineIdInTheSameNamespace) {
  ContainerIds ids;
  ids.restore({.containers = {engines(), sandbox()}}, true);
  KnownContainer again = engines();
  again.pid = 11;  // its anchor may be another process
  EXPECT_EQ(ids.recall(engines(4026539999)), std::nullopt) << "restarted meanwhile";
  EXPECT_EQ(ids.recall(again), "a1b2c3d4e5f6");
  EXPECT_EQ(ids.recall(again), std::nullopt) << "only once";
  EXPECT_EQ(ids.make(kEngineId), "a1b2c3d4e5f6-8");
}

TEST(ContainerIds, AreRecalledByAnchorInTheSameNamespace) {
  ContainerIds ids;
  ids.restore({.containers = {sandbox(), engines()}}, true);
  KnownContainer other = sandbox();
  other.started = 201;
  EXPECT_EQ(ids.recall(other), std::nullopt) << "only inode and pid are equal";
  other = sandbox();
  other.pid = 21;
  EXPECT_EQ(ids.recall(other), std::nullopt);
  other = sandbox();
  other.netns = 1;
  EXPECT_EQ(ids.recall(other), std::nullopt) << "the process has moved to another namespace";
  EXPECT_EQ(ids.recall(sandbox()), "n7");
  KnownContainer late = engines();
  late.engine_id.clear();  // still unknown
  EXPECT_EQ(ids.recall(late), "a1b2c3d4e5f6");
}

TEST(ContainerIds, AreNotRecalledByTheInodeAlone) {
  ContainerIds ids;
  ids.restore({.containers = {{.id = "n7", .netns = 4026532282}}}, true);  // a path kept it
  EXPECT_EQ(ids.recall({.netns = 4026532282}), std::nullopt);
  EXPECT_THAT(ids.former(), SizeIs(1));
  EXPECT_THAT(ids.take_former(), SizeIs(1));
  EXPECT_THAT(ids.former(), IsEmpty());
}

TEST(ContainerIds, AreNotReusedAfterARestart) {
  ContainerIds before;
  EXPECT_EQ(before.make(kEngineId), "a1b2c3d4e5f6");
  EXPECT_EQ(before.make(""), "n1");
  ContainerIds ids;
  ids.restore({.used = before.used(100), .next = before.next_number()}, true);
  EXPECT_EQ(ids.make(kEngineId), "a1b2c3d4e5f6-2");
  EXPECT_EQ(ids.make(""), "n3");
  EXPECT_EQ(ids.make("b1b2c3d4e5f60718"), "b1b2c3d4e5f6");
  EXPECT_THAT(ids.used(100), ElementsAre("a1b2c3d4e5f6", "b1b2c3d4e5f6"));
  EXPECT_THAT(ids.used(1), SizeIs(1));
}

TEST(ContainerIds, HaveANumberWhenUsedIdsAreUnknown) {
  ContainerIds ids;
  ids.restore({.next = 5}, false);
  EXPECT_EQ(ids.make(kEngineId), "a1b2c3d4e5f6-5");
}

TEST(ContainerIds, AreNotRestoredIfMakeCouldReuseThem) {
  std::vector<KnownContainer> saved;
  for (const char* id : {"n", "n-1", "nx", "m1", "", "a1b2c3d4e5f", "A1B2C3D4E5F6x",
                         "a1b2c3d4e5f6-", "a1b2c3d4e5f6_1", "n99999999999999999999",
                         "n9007199254740992", "n9", "n9", "b1b2c3d4e5f6-12"}) {
    saved.push_back({.id = id});
  }
  ContainerIds ids;
  ids.restore({.containers = saved, .used = {"nonsense", ""}, .next = 1}, true);
  std::vector<std::string> taken;
  for (const KnownContainer& former : ids.former()) taken.push_back(former.id);
  EXPECT_THAT(taken, ElementsAre("n9", "b1b2c3d4e5f6-12"));
  EXPECT_EQ(ids.make(""), "n13");
  EXPECT_EQ(ids.make("b1b2c3d4e5f60718"), "b1b2c3d4e5f6-14");
}

}  // namespace
}  // namespace portfwd
