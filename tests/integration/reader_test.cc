// The reader as the daemon uses it: what it tells of processes and files, and what becomes of it
// when something that it reads does not answer.
#include "broker/client/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "build_paths.h"
#include "kernel/pidfd.h"
#include "kernel/proc_dir.h"
#include "support/hanging_fuse.h"
#include "support/sandbox.h"
#include "support/streams.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing_support::HangingFuse;
using testing_support::Sandbox;
using testing_support::TempDir;

struct ReaderTest : testing::Test {
  template <class T>
  Result<T> wait_for(std::optional<Result<T>>& result) {
    const TimePoint limit = clock.now() + 20s;
    while (!result && clock.now() < limit) EXPECT_TRUE(loop.turn(100ms));
    return result ? std::move(*result) : fail("no answer", ETIME);
  }
  Result<Reader::Texts> texts(pid_t pid) {
    std::optional<Result<Reader::Texts>> result;
    const auto call =
        processes.read_texts(pid, started(pid), [&](auto r) { result = std::move(r); });
    EXPECT_TRUE(call.pending());
    return wait_for(result);
  }
  Result<std::string> file(const std::string& path, std::uint32_t limit = 1 << 20) {
    std::optional<Result<std::string>> result;
    const auto call = files.read_file({folder.path(), path, ::geteuid(), limit},
                                      [&](auto r) { result = std::move(r); });
    return wait_for(result);
  }
  Error file_error(const std::string& path) {
    const auto result = file(path);
    return result ? Error{} : result.error();
  }
  std::uint64_t started(pid_t pid) {
    const auto stat = proc.stat(pid);
    return stat ? stat->started : 0;
  }
  void write(const std::string& path, const std::string& text) {
    std::ofstream(folder.path() + "/" + path) << text;
  }
  void link(const std::string& to, const std::string& from) {
    ASSERT_EQ(::symlink(to.c_str(), (folder.path() + "/" + from).c_str()), 0);
  }

  SystemClock clock;
  EventLoop loop{clock};
  ProcDir proc;
  TempDir folder;
  Reader processes{loop, {.program = PORTFWD_BROKER_PATH}};
  Reader files{loop, {.program = PORTFWD_BROKER_PATH, .purpose = broker::Purpose::Files}};
};

TEST_F(ReaderTest, TellsCommandLineAndEnvironmentOfAProcess) {
  const auto own = texts(::getpid());
  ASSERT_TRUE(own) << own.error().text();
  EXPECT_EQ(own->command, proc.read(::getpid(), "cmdline"));
  EXPECT_EQ(own->environment, *proc.read(::getpid(), "environ", broker::kEnvironmentLimit));
}

TEST_F(ReaderTest, SaysThatAProcessIsGone) {
  EXPECT_EQ(texts(1 << 22).error().code, ESRCH);
}

TEST_F(ReaderTest, FindsTheProcessThatHasASocketOpen) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  struct stat about {};
  ASSERT_EQ(::fstat(socket.get(), &about), 0);
  const auto inode = static_cast<std::uint32_t>(about.st_ino);
  Sandbox other;
  std::optional<Result<Reader::Owners>> result;
  const std::vector<pid_t> pids{other.pid(), ::getpid()};
  const std::vector<std::uint32_t> inodes{inode, 1};
  const auto call = processes.find_owners(pids, inodes, [&](auto r) { result = std::move(r); });
  const auto owners = wait_for(result);
  ASSERT_TRUE(owners);
  ASSERT_EQ(owners->size(), 1U);
  EXPECT_EQ(owners->front().inode, inode);
  EXPECT_EQ(owners->front().pid, other.pid()) << "it has a copy, and was asked first";
}

TEST_F(ReaderTest, CallsNobodyBackWhoHasCancelled) {
  bool called = false;
  {
    const auto call = processes.read_texts(::getpid(), 1, [&](auto) { called = true; });
  }
  EXPECT_TRUE(texts(::getpid()));
  EXPECT_FALSE(called);
}

TEST_F(ReaderTest, KeepsReadingOthersWhenAProcessHangs) {
  const HangingFuse hanging(HangingFuse::What::MemoryMap);
  std::optional<Result<Reader::Texts>> hung;
  const auto call = processes.read_texts(hanging.pid(), started(hanging.pid()),
                                         [&](auto r) { hung = std::move(r); });
  EXPECT_TRUE(texts(::getpid())) << "asked after the other one";
  ASSERT_TRUE(hung);
  EXPECT_EQ(hung->error().code, ETIMEDOUT);
  EXPECT_EQ(processes.silences(), 1U);
  EXPECT_EQ(texts(hanging.pid()).error().code, ETIMEDOUT);
  EXPECT_EQ(processes.silences(), 1U) << "it is not read again";
}

TEST_F(ReaderTest, ReadsAFileOfTheFolder) {
  write("plain", "{}");
  EXPECT_EQ(file("plain"), "{}");
  const std::string large(300'000, 'a');
  write("large", large);
  EXPECT_EQ(file("large"), large);
  EXPECT_EQ(file("large", 300'000), large);
  EXPECT_EQ(file("large", 299'999).error().code, EFBIG);
  write("chunk", std::string(broker::kChunk, 'b'));
  EXPECT_EQ(file("chunk")->size(), broker::kChunk);
  EXPECT_EQ(file_error("missing").code, ENOENT);
}

TEST_F(ReaderTest, FollowsLinksThatStayBelowTheFolder) {
  ::mkdir((folder.path() + "/shared").c_str(), 0700);
  ::mkdir((folder.path() + "/.devcontainer").c_str(), 0700);
  write("shared/file", "below");
  link("../shared/file", ".devcontainer/file");
  link("shared", "linked");
  EXPECT_EQ(file(".devcontainer/file"), "below");
  EXPECT_EQ(file("linked/file"), "below");
}

TEST_F(ReaderTest, RefusesLinksThatLeadOutOfTheFolder) {
  link("/etc", "etc");
  link("../", "up");
  link("/proc/self/environ", "own");
  EXPECT_EQ(file_error("etc/passwd").code, EXDEV);
  EXPECT_EQ(file_error("up/x").code, EXDEV);
  EXPECT_EQ(file_error("own").code, EXDEV);
  EXPECT_EQ(file_error("../x").code, EXDEV);
}

TEST_F(ReaderTest, RefusesWhatIsNoRegularFileOfTheUser) {
  ASSERT_EQ(::mkfifo((folder.path() + "/pipe").c_str(), 0600), 0);
  ::mkdir((folder.path() + "/folder").c_str(), 0700);
  EXPECT_EQ(file_error("pipe").code, EINVAL);
  EXPECT_EQ(file_error("folder").code, EINVAL);
  std::optional<Result<std::string>> result;
  write("mine", "");
  const auto call = files.read_file({folder.path(), "mine", ::geteuid() + 1, 1},
                                    [&](auto r) { result = std::move(r); });
  EXPECT_EQ(wait_for(result).error().code, EACCES);
}

TEST_F(ReaderTest, RefusesTheKernelsOwnFileSystems) {
  std::optional<Result<std::string>> result;
  auto call = files.read_file({"/proc/self", "environ", ::geteuid(), 1 << 20},
                              [&](auto r) { result = std::move(r); });
  EXPECT_FALSE(wait_for(result));
  result.reset();
  call = files.read_file({"/proc/self/root" + folder.path(), "x", ::geteuid(), 1 << 20},
                         [&](auto r) { result = std::move(r); });
  EXPECT_EQ(wait_for(result).error().code, ELOOP) << "a magic link";
}

/// A FUSE request that the server has taken cannot be ended by a signal: its reader stays.
TEST_F(ReaderTest, GivesUpOnFilesWhenTooManyReadersHang) {
  HangingFuse hanging(HangingFuse::What::Mount);
  const UniqueFd there(
      ::open(("/proc/" + std::to_string(hanging.pid()) + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::setns(there.get(), CLONE_NEWNS), 0) << "root of the outer user namespace may";
  const auto ask = [&](const std::string& name) {
    std::optional<Result<std::string>> result;
    const auto call =
        files.read_file({hanging.mount(), name, 0, 100}, [&](auto r) { result = std::move(r); });
    return wait_for(result).error().code;
  };
  EXPECT_EQ(ask("hang"), ETIMEDOUT);
  EXPECT_EQ(ask("hang"), ETIMEDOUT) << "not read again";
  EXPECT_EQ(files.silences(), 1U);
  for (const char* other : {"./hang", "././hang", "./././hang"}) EXPECT_EQ(ask(other), ETIMEDOUT);
  EXPECT_EQ(files.stuck(), Reader::kMostStuck);
  EXPECT_EQ(ask("f"), EBUSY);
  EXPECT_TRUE(texts(::getpid())) << "processes have another reader";
  hanging.end();
  const TimePoint limit = clock.now() + 20s;
  while (files.stuck() > 0 && clock.now() < limit) EXPECT_TRUE(loop.turn(100ms));
  write("later", "x");
  EXPECT_EQ(files.stuck(), 0U);
}

TEST_F(ReaderTest, ComesBackAfterItWasKilled) {
  ASSERT_TRUE(texts(::getpid()));
  const pid_t before = processes.pid();
  const auto pidfd = open_pidfd(before);
  ::kill(before, SIGKILL);
  const TimePoint limit = clock.now() + 20s;
  bool back = false;
  while (!back && clock.now() < limit) {
    EXPECT_TRUE(loop.turn(10ms));
    back = texts(::getpid()).has_value() && processes.pid() != before;
  }
  EXPECT_TRUE(back);
}

}  // namespace
}  // namespace portfwd
