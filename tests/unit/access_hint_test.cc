// Hints for a user without permission to use an engine's socket.
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "access/container_access.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using testing::HasSubstr;
using testing::Not;

struct AccessHintTest : testing::Test {
  AccessHintTest() {
    std::ofstream(socket) << "";
    if (::geteuid() == 0) {
      EXPECT_EQ(::chown(socket.c_str(), 0, 4711), 0);
    }
    EXPECT_EQ(::chmod(socket.c_str(), 0660), 0);
    EXPECT_EQ(::stat(socket.c_str(), &about), 0);
  }
  [[nodiscard]] std::string told(const std::string& members) const {
    std::ofstream(groups) << "root:x:0:\ndocker:x:" << about.st_gid << ":" << members << "\n";
    return hint_to_join_group(socket, {"ann", 1000}, groups.c_str());
  }
  testing_support::TempDir folder;
  std::string socket = folder.path() + "/docker.sock";
  std::string groups = folder.path() + "/group";
  struct stat about {};
};

TEST_F(AccessHintTest, NamesTheGroupAndTheRestartOfTheUserManager) {
  const std::string way = told("joanne,bob");
  EXPECT_THAT(way, HasSubstr("join the group docker: `sudo usermod -aG docker ann`"));
  EXPECT_THAT(way, HasSubstr("`sudo systemctl restart user@1000`"));
  EXPECT_THAT(way, HasSubstr("newgrp is not enough"));
}

TEST_F(AccessHintTest, NamesTheRestartAloneForAMemberOfTheGroup) {
  const std::string way = told("bob,ann");
  EXPECT_THAT(way, HasSubstr("`sudo systemctl restart user@1000`"));
  EXPECT_THAT(way, Not(HasSubstr("usermod")));
}

TEST_F(AccessHintTest, IsEmptyForASocketThatNoGroupMayUse) {
  EXPECT_EQ(::chmod(socket.c_str(), 0600), 0);
  EXPECT_EQ(told(""), "");
  EXPECT_EQ(hint_to_join_group("/nonexistent", {"ann", 1000}), "");
}

TEST_F(AccessHintTest, IsEmptyForAGroupWithoutAName) {
  std::ofstream(groups) << "nonsense\n:::\n";
  EXPECT_EQ(hint_to_join_group(socket, {"ann", 1000}, groups.c_str()), "");
  EXPECT_EQ(hint_to_join_group(socket, {"ann", 1000}, "/nonexistent"), "");
}

}  // namespace
}  // namespace portfwd
