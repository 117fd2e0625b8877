// Lookup of user names, and the services that are queried for it.
#include "config/user_names.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/temp_dir.h"

namespace portfwd {
namespace {

TEST(PasswdFile, FindsTheUidOfAWholeName) {
  constexpr std::string_view kFile =
      "root:x:0:0:root:/root:/bin/sh\n# ann:x:1:1\n\nbad:x:12a:0::/:\nshort\n+::::::\n"
      "anna:x:1001:1001::/home/anna:/bin/sh\nann:x:1002:100";
  EXPECT_EQ(uid_in_passwd(kFile, "root"), uid_t{0});
  EXPECT_EQ(uid_in_passwd(kFile, "ann"), uid_t{1002});
  for (const char* name : {"bad", "short", "+", "an", "", "x", "root:x:0"}) {
    EXPECT_EQ(uid_in_passwd(kFile, name), std::nullopt) << name;
  }
}

struct UserNamesTest : testing::Test {
  void write(std::string_view text) const { std::ofstream(folder.path() + "/passwd") << text; }
  testing_support::TempDir folder;
  UserNames users{folder.path() + "/passwd"};
};

TEST_F(UserNamesTest, KeepsResolvedNamesAndQueriesNoServiceLater) {
  EXPECT_EQ(users.find("root"), uid_t{0}) << "by a service: the file does not exist";
  users.stop_queries();
  EXPECT_EQ(users.find("root"), uid_t{0});
  EXPECT_EQ(users.find("daemon"), std::nullopt) << "services must not be queried any longer";
}

TEST_F(UserNamesTest, ReadsTheFileEachTime) {
  users.stop_queries();
  write("ann:x:1001:1001::/:\n");
  EXPECT_EQ(users.find("ann"), uid_t{1001});
  write("ann:x:1002:1001::/:\n");
  EXPECT_EQ(users.find("ann"), uid_t{1002});
  write("");
  EXPECT_EQ(users.find("ann"), std::nullopt);
}

}  // namespace
}  // namespace portfwd
