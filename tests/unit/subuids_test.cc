// Parsing of /etc/subuid, which is read again after a change.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>

#include "relay/client_identity.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(SubuidsTest, LinesCountByNameAndByNumber) {
  EXPECT_THAT(parse_subuids("ann:100000:65536\n1000:300000:10\nbob:200000:65536\n", "ann", 1000),
              ElementsAre(UidRange{100000, 65536}, UidRange{300000, 10}));
}

TEST(SubuidsTest, LastLineNeedsNoNewline) {
  EXPECT_THAT(parse_subuids("ann:1:2", "ann", 7), ElementsAre(UidRange{1, 2}));
}

TEST(SubuidsTest, WhatIsNoRangeCountsForNothing) {
  EXPECT_THAT(
      parse_subuids("ann\nann:\nann:1\nann:x:5\nann:1:5x\nann:-1:5\nann:1:\n:1:5\n#ann:1:5\n"
                    "ann:99999999999:5\nann: 1:5\n\n",
                    "ann", 7),
      IsEmpty());
}

TEST(SubuidsTest, AnUnknownNameMatchesNoLineWithoutAName) {
  EXPECT_THAT(parse_subuids(":100000:65536\n", "", 7), IsEmpty());
}

TEST(SubuidsTest, ARangeIsHalfOpenAndDoesNotWrap) {
  const UidRange range{4294967290, 100};
  EXPECT_FALSE(range.contains(4294967289));
  EXPECT_TRUE(range.contains(4294967290));
  EXPECT_TRUE(range.contains(4294967295));
  EXPECT_FALSE(range.contains(0));
  EXPECT_FALSE((UidRange{5, 0}).contains(5));
  EXPECT_FALSE((UidRange{5, 2}).contains(7));
}

TEST(SubuidsTest, TheFileIsReadAgainWhenItHasChanged) {
  std::string folder = testing::TempDir() + "/subuidsXXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::filesystem::path file = folder + "/subuid";
  Subuids subuids(file, "ann", 1000);
  EXPECT_FALSE(subuids.contains(100000)) << "no file, no ranges";
  std::ofstream(file) << "ann:100000:1\n";
  EXPECT_TRUE(subuids.contains(100000));
  std::ofstream(file, std::ios::app) << "ann:200000:1\n";
  EXPECT_TRUE(subuids.contains(200000));
  std::filesystem::remove(file);
  ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
  EXPECT_FALSE(subuids.contains(100000)) << "a pipe must not block";
  std::filesystem::remove_all(folder);
  EXPECT_FALSE(subuids.contains(100000));
}

}  // namespace
}  // namespace portfwd
