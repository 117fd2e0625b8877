// Parsers of /proc files: texts as written by kernels, cut at every length, and malformed.
#include "kernel/procfs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/captured.h"

namespace portfwd::procfs {
namespace {

using testing::ElementsAre;
using testing_support::captured;

TEST(ProcfsIdMap, ReportsWhetherAnIdIsMapped) {
  const char* map = "         0       1000          1\n         1     100000      65536\n";
  for (const std::uint32_t id : {1000U, 100000U, 165535U}) EXPECT_TRUE(maps_id(map, id)) << id;
  for (const std::uint32_t id : {0U, 999U, 1001U, 165536U}) EXPECT_FALSE(maps_id(map, id)) << id;
  EXPECT_FALSE(maps_id("", 0));
  EXPECT_FALSE(maps_id("0 0\n", 0));
}

TEST(ProcfsIdMap, CountsTheIdsOfAllLines) {
  EXPECT_EQ(mapped_ids("         0       1000          1\n"), 1U);
  EXPECT_EQ(mapped_ids("         0       1000          1\n         1     100000      65536\n"),
            65537U);
  EXPECT_EQ(mapped_ids("         0          0 4294967295\n"), 4294967295U);
  EXPECT_EQ(mapped_ids(""), 0U);
  EXPECT_EQ(mapped_ids("0 0 x\n"), 0U);
}

TEST(ProcStat, EndsTheNameAtTheLastParenthesis) {
  const auto stat = parse_stat(captured("proc/stat_hostile_comm"));
  ASSERT_TRUE(stat);
  EXPECT_EQ(stat->pid, 30448);
  EXPECT_EQ(stat->comm, "a) R 1 (b c");
  EXPECT_EQ(stat->state, 'S');
  EXPECT_EQ(stat->ppid, 30406);
}

TEST(ProcStat, RejectsATextThatIsCutBeforeTheParent) {
  const std::string text = "12 (x) Z 34 ";
  for (std::size_t n = 0; n < std::string("12 (x) Z 3").size(); ++n) {
    EXPECT_FALSE(parse_stat(text.substr(0, n))) << n;
  }
  EXPECT_EQ(parse_stat(text)->ppid, 34);
}

TEST(ProcStatus, TheSecondUidIsTheEffectiveOne) {
  EXPECT_EQ(parse_status_uid(captured("proc/status")), 0U);
  EXPECT_EQ(parse_status_uid("Name:\tx\nUid:\t1\t2\t3\t4\n"), 2U);
  EXPECT_FALSE(parse_status_uid("Uid:\t1"));
  EXPECT_FALSE(parse_status_uid("Gid:\t1\t2\t3\t4\n"));
  EXPECT_FALSE(parse_status_uid(""));
}

TEST(ProcLoadavg, TheLastFieldIsTheLastPid) {
  EXPECT_GT(parse_last_pid(captured("proc/loadavg")).value_or(0), 0);
  EXPECT_EQ(parse_last_pid("0.1 0.2 0.3 1/80 4711\n"), 4711);
  EXPECT_FALSE(parse_last_pid("0.1 0.2 0.3 1/80 \n"));
  EXPECT_FALSE(parse_last_pid("4711"));
  EXPECT_FALSE(parse_last_pid(""));
}

TEST(ProcCgroup, TheUnifiedPathComesFirst) {
  EXPECT_THAT(parse_cgroup("2:cpu,cpuacct:/a:b\n0::/c\n"), ElementsAre("/c", "/a:b"));
  EXPECT_EQ(parse_cgroup(captured("proc/cgroup_podman_hybrid")).size(), 10U);
  EXPECT_THAT(parse_cgroup("0::"), ElementsAre());
  EXPECT_THAT(parse_cgroup("x"), ElementsAre());
  EXPECT_THAT(parse_cgroup(""), ElementsAre());
}

TEST(ProcCmdline, StringsEndAtNulAndTheLastMayBeCut) {
  EXPECT_THAT(split_strings(std::string("a\0\0b\0", 5)), ElementsAre("a", "", "b"));
  EXPECT_THAT(split_strings(std::string("a\0b", 3)), ElementsAre("a", "b"));
  EXPECT_THAT(split_strings(""), ElementsAre());
}

TEST(ProcLinks, OnlyTheExactFormCounts) {
  EXPECT_EQ(parse_netns_link("net:[4026531840]"), 4026531840U);
  EXPECT_EQ(parse_socket_link("socket:[12]"), 12U);
  for (const char* wrong : {"", "net:[", "net:[]", "net:[1", "net:1]", "net:[x]", "net:[1]x",
                            "mnt:[1]", "net:[99999999999999999999]", "socket:[1]"}) {
    EXPECT_FALSE(parse_netns_link(wrong)) << wrong;
  }
}

TEST(ProcMountinfo, NamedNamespacesAreFoundAndBlanksUnescaped) {
  std::vector<std::string> points;
  for (const Mount& mount : parse_mountinfo(captured("proc/mountinfo_nsfs"))) {
    if (mount.type == "nsfs") points.push_back(mount.point + " " + mount.root);
  }
  EXPECT_THAT(points, ElementsAre("/run/netns/blue net:[4026532178]",
                                  "/mnt/with blank/ns net:[4026532178]"));
}

TEST(ProcMountinfo, ALineThatIsCutBeforeItsTypeGivesNothing) {
  const std::string line = "1 2 0:3 / /x rw shared:1 master:2 - tmpfs none rw";
  for (std::size_t n = 0; n < line.find(" - ") + 3; ++n) {
    EXPECT_FALSE(parse_mount(line.substr(0, n))) << n;
  }
  EXPECT_EQ(parse_mount(line)->type, "tmpfs");
}

TEST(ProcMountinfo, KeepsInvalidEscapes) {
  EXPECT_EQ(parse_mount("1 2 0:3 / /a\\04 rw - x y z")->point, "/a\\04");
  EXPECT_EQ(parse_mount("1 2 0:3 / /a\\999 rw - x y z")->point, "/a\\999");
}

}  // namespace
}  // namespace portfwd::procfs
