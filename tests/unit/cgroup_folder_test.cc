// Membership of a cgroup in another one. The id of a cgroup is the inode of its folder, so the
// tests use ordinary folders.
#include <gtest/gtest.h>

#include "kernel/procfs.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using testing_support::TempDir;

struct CgroupFolder : testing::Test {
  std::string make(const std::string& below) {
    const std::string path = folder.path() + "/" + below;
    std::filesystem::create_directories(path);
    return path;
  }
  TempDir folder;
};

TEST_F(CgroupFolder, HoldsItselfAndWhatIsBelowIt) {
  const std::string container = make("libpod.scope/container");
  const std::string service = make("libpod.scope/container/system.slice/nginx.service");
  const std::string scope = folder.path() + "/libpod.scope";
  EXPECT_TRUE(cgroup_holds(scope, cgroup_id_of(scope)));
  EXPECT_TRUE(cgroup_holds(scope, cgroup_id_of(container)));
  EXPECT_TRUE(cgroup_holds(scope, cgroup_id_of(service)));
  EXPECT_FALSE(cgroup_holds(service, cgroup_id_of(container)));
}

TEST_F(CgroupFolder, DoesNotHoldItsNeighbours) {
  const std::string one = make("one");
  const std::string other = make("other/below");
  EXPECT_FALSE(cgroup_holds(one, cgroup_id_of(other)));
}

TEST_F(CgroupFolder, HoldsNothingIfItDoesNotExist) {
  EXPECT_EQ(cgroup_id_of(folder.path() + "/nowhere"), 0U);
  EXPECT_FALSE(cgroup_holds(folder.path() + "/nowhere", 1));
  EXPECT_FALSE(cgroup_holds("", cgroup_id_of(folder.path())));
  EXPECT_FALSE(cgroup_holds(folder.path(), 0));
}

TEST_F(CgroupFolder, DoesNotFollowLinks) {
  const std::string one = make("one");
  const std::string other = make("other");
  std::filesystem::create_directory_symlink(other, one + "/link");
  EXPECT_FALSE(cgroup_holds(one, cgroup_id_of(other)));
}

TEST_F(CgroupFolder, LimitsTheSearch) {
  std::string deep = "one";
  for (int i = 0; i < 40; ++i) deep += "/below";
  EXPECT_FALSE(cgroup_holds(folder.path() + "/one", cgroup_id_of(make(deep))));
}

}  // namespace
}  // namespace portfwd
