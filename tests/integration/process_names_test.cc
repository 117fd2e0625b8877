// Programs of listeners, found by readers: processes that discovery has not seen, and a process
// that has written its title over its environment.
#include "access/process_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "build_paths.h"
#include "support/box.h"
#include "support/deadline.h"
#include "support/finder.h"
#include "support/hanging_fuse.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using testing_support::Box;
using testing_support::Finder;
using testing_support::netns_of;

struct ProcessFinderTest : testing::Test {
  /// The newest socket of the process.
  static std::uint32_t socket_of(pid_t pid) {
    const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
    std::uint32_t last = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const auto inode = procfs::parse_socket_link(std::filesystem::read_symlink(entry).string());
      if (inode) last = std::max(last, static_cast<std::uint32_t>(*inode));
    }
    return last;  // inodes increase
  }
  ProcessNames::Programs find(std::uint64_t netns, std::uint32_t inode) {
    std::optional<ProcessNames::Programs> found;
    const auto search =
        names.find(netns, {inode}, [&](ProcessNames::Programs programs) { found = programs; });
    EXPECT_TRUE(finder.until([&] { return found.has_value(); }));
    return found.value_or(ProcessNames::Programs());
  }

  /// Repeats the search: on a busy machine it may end before it finds the process.
  ProcessNames::Programs find_there(std::uint64_t netns, std::uint32_t inode) {
    ProcessNames::Programs found;
    const TimePoint end = finder.loop.now() + testing_support::kDeadline;
    while (found.empty() && finder.loop.now() < end) found = find(netns, inode);
    return found;
  }

  static Discovery::Options without_hints() {
    Discovery::Options options;
    options.exec_hints = false;
    return options;
  }
  Finder finder{without_hints()};
  FoundProcessNames names{{finder.loop, finder.proc, finder.reader, finder.facts, finder.discovery,
                           PORTFWD_BROKER_PATH}};
};

TEST_F(ProcessFinderTest, FindsAServerForkedSinceTheLastScan) {
  const Box first;
  finder.start();
  const std::uint64_t netns = netns_of(first.pid());
  ASSERT_NE(finder.by_netns(netns), nullptr);
  const Box second = Box::beside(first);
  ASSERT_EQ(second.open(8080), 0);
  const auto found = find_there(netns, socket_of(second.pid()));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.begin()->second.pid, second.pid());
  EXPECT_EQ(found.begin()->second.name, "server");
}

TEST_F(ProcessFinderTest, LeavesOutSocketsWithoutAProcess) {
  const Box box;
  finder.start();
  EXPECT_TRUE(find(netns_of(box.pid()), 1).empty());
}

TEST_F(ProcessFinderTest, NamesOthersWhileAProcessCannotBeRead) {
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  finder.start();
  const testing_support::HangingFuse hanging(testing_support::HangingFuse::What::MemoryMap);
  const auto stat = finder.proc.stat(hanging.pid());
  const auto call = finder.reader.read_texts(hanging.pid(), stat->started, [](const auto&) {});
  const auto found = find_there(netns_of(box.pid()), socket_of(box.pid()));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.begin()->second.pid, box.pid());
  EXPECT_THAT(finder.reader.timed_out_subjects(16),
              testing::Contains(testing::HasSubstr(std::to_string(hanging.pid()))));
}

/// Perl writes a value assigned to $0 over its arguments and its environment, as redis and nginx
/// do.
TEST_F(ProcessFinderTest, FindsTheOptOutOfAProgramThatOverwroteItsEnvironmentInItsParents) {
  std::array<int, 2> told{};
  ASSERT_EQ(::pipe(told.data()), 0);
  const testing_support::TempDir folder;
  std::ofstream(folder.path() + "/script")
      << "perl -e '$0 = \"a\" x 9999; syswrite(STDOUT, \"$$\\n\"); sleep 1000' &\n"
         "exec 5<&- 1>&-; wait\n";
  testing_support::Sandbox sandbox(testing_support::Sandbox::kUserAndNet, [&told,
                                                                           script = folder.path() +
                                                                                    "/script"] {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    if (::fork() != 0) return ::close(socket);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(socket, 5);
    if (socket != 5) ::close(socket);
    ::dup2(told[1], STDOUT_FILENO);
    ::setpgid(0, 0);
    std::array<char*, 3> argv{const_cast<char*>("sh"), const_cast<char*>(script.c_str()), nullptr};
    std::array<char*, 3> environment{const_cast<char*>("PATH=/usr/bin:/bin"),
                                     const_cast<char*>("PORTFWD=off"), nullptr};
    ::execve("/bin/sh", argv.data(), environment.data());
    ::_exit(127);
  });
  ::close(told[1]);
  std::array<char, 32> line{};
  ASSERT_GT(::read(told[0], line.data(), line.size() - 1), 0);
  ::close(told[0]);
  const pid_t perl = static_cast<pid_t>(std::strtol(line.data(), nullptr, 10));
  const std::string environ = finder.proc.read(perl, "environ").value_or("?");
  ASSERT_FALSE(environ.contains("PORTFWD")) << "perl did not overwrite its environment";
  finder.start();
  const auto pgid = ::getpgid(perl);
  const auto found = find_there(sandbox.netns(), socket_of(perl));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_TRUE(found.begin()->second.opted_out);
  ::kill(-pgid, SIGKILL);
}

}  // namespace
}  // namespace portfwd
