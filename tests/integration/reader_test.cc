// The reader as the daemon uses it: what it returns of processes and files, and what happens when a
// process or file does not answer.
#include "broker/client/reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <cstddef>
#include <fstream>
#include <thread>

#include "build_paths.h"
#include "kernel/netns.h"
#include "kernel/procfs.h"
#include "support/deadline.h"
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

struct ReaderRig {
  template <class T>
  Result<T> wait_for(std::optional<Result<T>>& result) {
    const TimePoint limit = clock.now() + testing_support::kDeadline;
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
  Result<std::string> file_in(const std::string& there, const std::string& path,
                              uid_t owner = ::geteuid(), std::uint32_t limit = 1 << 20) {
    std::optional<Result<std::string>> result;
    const auto call =
        files.read_file({there, path, owner, limit}, [&](auto r) { result = std::move(r); });
    return wait_for(result);
  }
  Result<std::string> file(const std::string& path, std::uint32_t limit = 1 << 20) {
    return file_in(folder.path(), path, ::geteuid(), limit);
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
  void make_folder(const std::string& path) {
    ASSERT_EQ(::mkdir((folder.path() + "/" + path).c_str(), 0700), 0);
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

struct ReaderTest : testing::Test, ReaderRig {};

TEST_F(ReaderTest, ReadsCommandLineAndEnvironmentOfAProcess) {
  const auto own = texts(::getpid());
  ASSERT_TRUE(own) << own.error().text();
  EXPECT_EQ(own->command, proc.read(::getpid(), "cmdline"));
  EXPECT_EQ(own->environment, *proc.read(::getpid(), "environ", broker::kEnvironmentLimit));
}

TEST_F(ReaderTest, ReportsThatAProcessHasExited) {
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

TEST_F(ReaderTest, DoesNotCallBackCancelledRequests) {
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
  EXPECT_EQ(processes.timeouts(), 1U);
  EXPECT_EQ(texts(hanging.pid()).error().code, ETIMEDOUT);
  EXPECT_EQ(processes.timeouts(), 1U) << "it is not read again";
}

/// The parameter is the errno that openat2(2) returns, from the kernel or a filter; 0: it succeeds.
/// The rules for paths are the same.
class ReaderFilesTest : public testing::TestWithParam<int> {
 protected:
  /// In a thread, since a filter cannot be removed. Processes started there inherit it.
  void run(void (*body)(ReaderRig&)) {
    std::thread([body] {
      if (GetParam() != 0) answer_openat2_with(GetParam());
      ReaderRig rig;
      body(rig);
    }).join();
  }

 private:
  static void answer_openat2_with(int error) {
    std::array<sock_filter, 4> code{
        {{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
         {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_openat2},
         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)},
         {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}}};
    const sock_fprog program{code.size(), code.data()};
    ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ASSERT_EQ(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    ASSERT_EQ(::syscall(SYS_openat2, 0, nullptr, nullptr, 0), -1);
    ASSERT_EQ(errno, error);
  }
};

TEST_P(ReaderFilesTest, ReadsAFileOfTheFolder) {
  run([](ReaderRig& r) {
    r.write("plain", "{}");
    EXPECT_EQ(r.file("plain"), "{}");
    const std::string large(300'000, 'a');
    r.write("large", large);
    EXPECT_EQ(r.file("large"), large);
    EXPECT_EQ(r.file("large", 300'000), large);
    EXPECT_EQ(r.file("large", 299'999).error().code, EFBIG);
    r.write("chunk", std::string(broker::kChunk, 'b'));
    EXPECT_EQ(r.file("chunk")->size(), broker::kChunk);
    EXPECT_EQ(r.file_error("missing").code, ENOENT);
    EXPECT_EQ(r.file_error("missing/file").code, ENOENT);
    EXPECT_EQ(r.file_error("plain/file").code, ENOTDIR);
  });
}

TEST_P(ReaderFilesTest, FollowsLinksThatStayBelowTheFolder) {
  run([](ReaderRig& r) {
    r.make_folder("shared");
    r.make_folder("shared/deep");
    r.make_folder(".devcontainer");
    r.write("shared/file", "below");
    r.link("../shared/file", ".devcontainer/file");
    r.link("shared", "linked");
    r.link("linked/deep//.././deep/..", "round");
    EXPECT_EQ(r.file(".devcontainer/file"), "below");
    EXPECT_EQ(r.file("linked/file"), "below");
    EXPECT_EQ(r.file("round/file"), "below");
    EXPECT_EQ(r.file("shared/../linked//deep/../file"), "below");
    EXPECT_EQ(r.file_in(r.folder.path() + "/linked", "file"), "below");
    r.link(r.folder.path() + "/shared", "absolute");
    EXPECT_EQ(r.file_in(r.folder.path() + "/absolute/deep/..", "file"), "below");
  });
}

TEST_P(ReaderFilesTest, RefusesLinksThatLeadOutOfTheFolder) {
  run([](ReaderRig& r) {
    r.make_folder("deep");
    r.link("/etc", "etc");
    r.link("../", "up");
    r.link("../../", "deep/up");
    r.link("/proc/self/environ", "own");
    EXPECT_EQ(r.file_error("etc/passwd").code, EXDEV);
    EXPECT_EQ(r.file_error("up/x").code, EXDEV);
    EXPECT_EQ(r.file_error("deep/up/x").code, EXDEV);
    EXPECT_EQ(r.file_error("own").code, EXDEV);
    EXPECT_EQ(r.file_error("../x").code, EXDEV);
    EXPECT_EQ(r.file_error("deep/../../x").code, EXDEV);
    EXPECT_EQ(r.file_error("/etc/passwd").code, EXDEV);
  });
}

TEST_P(ReaderFilesTest, FollowsNoMoreThanFortyLinks) {
  run([](ReaderRig& r) {
    r.write("0", "end");
    for (int i = 1; i <= 41; ++i) r.link(std::to_string(i - 1), std::to_string(i));
    EXPECT_EQ(r.file("40"), "end");
    EXPECT_EQ(r.file_error("41").code, ELOOP);
    r.link("b", "a");
    r.link("a", "b");
    EXPECT_EQ(r.file_error("a").code, ELOOP);
    r.link("grows/x", "grows");
    EXPECT_EQ(r.file_error("grows/file").code, ELOOP);
  });
}

TEST_P(ReaderFilesTest, RejectsAllButRegularFilesOfTheUser) {
  run([](ReaderRig& r) {
    ASSERT_EQ(::mkfifo((r.folder.path() + "/pipe").c_str(), 0600), 0);
    r.make_folder("folder");
    EXPECT_EQ(r.file_error("pipe").code, EINVAL);
    EXPECT_EQ(r.file_error("folder").code, EINVAL);
    EXPECT_EQ(r.file_error("folder/").code, EINVAL);
    EXPECT_EQ(r.file_error(".").code, EINVAL);
    r.write("mine", "");
    EXPECT_EQ(r.file_in(r.folder.path(), "mine", ::geteuid() + 1).error().code, EACCES);
    EXPECT_EQ(r.file_in(r.folder.path() + "/mine", "x").error().code, ENOTDIR);
  });
}

TEST_P(ReaderFilesTest, RejectsKernelFileSystems) {
  run([](ReaderRig& r) {
    EXPECT_FALSE(r.file_in("/proc/self", "environ"));
    EXPECT_EQ(r.file_in("/proc/self/root" + r.folder.path(), "x").error().code, ELOOP);
  });
}

INSTANTIATE_TEST_SUITE_P(OfOpenat2, ReaderFilesTest, testing::Values(0, ENOSYS, EPERM),
                         [](const auto& answer) -> std::string {
                           if (answer.param == 0) return "Itself";
                           return answer.param == ENOSYS ? "Missing" : "Forbidden";
                         });

/// No signal ends a FUSE request that the server has received, so its reader stays.
TEST_F(ReaderTest, RejectsRequestsWhenTooManyReadersHang) {
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
  EXPECT_EQ(files.timeouts(), 1U);
  for (const char* other : {"./hang", "././hang", "./././hang"}) EXPECT_EQ(ask(other), ETIMEDOUT);
  EXPECT_EQ(files.stuck(), Reader::kMostStuck);
  EXPECT_EQ(ask("f"), EBUSY);
  EXPECT_TRUE(texts(::getpid())) << "processes have another reader";
  hanging.end();
  const TimePoint limit = clock.now() + testing_support::kDeadline;
  while (files.stuck() > 0 && clock.now() < limit) EXPECT_TRUE(loop.turn(100ms));
  write("later", "x");
  EXPECT_EQ(files.stuck(), 0U);
}

TEST_F(ReaderTest, StopsWhenIdleAndRestarts) {
  EXPECT_TRUE(texts(::getpid()));
  const pid_t child = processes.pid();
  processes.stop_if_idle();
  const TimePoint limit = clock.now() + testing_support::kDeadline;
  while (!processes.is_stopped() && clock.now() < limit) EXPECT_TRUE(loop.turn(100ms));
  EXPECT_TRUE(processes.is_stopped());
  EXPECT_EQ(::waitpid(child, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD) << "it was waited for";
  EXPECT_TRUE(texts(::getpid()));
  EXPECT_NE(processes.pid(), child);
}

TEST_F(ReaderTest, RestartsAfterItWasKilled) {
  ASSERT_TRUE(texts(::getpid()));
  const pid_t before = processes.pid();
  const auto pidfd = open_pidfd(before);
  ::kill(before, SIGKILL);
  const TimePoint limit = clock.now() + testing_support::kDeadline;
  bool back = false;
  while (!back && clock.now() < limit) {
    EXPECT_TRUE(loop.turn(10ms));
    back = texts(::getpid()).has_value() && processes.pid() != before;
  }
  EXPECT_TRUE(back);
}

}  // namespace
}  // namespace portfwd
