// When discovery reads the opt-out of a program. On a folder that imitates /proc, since an ordinary
// user cannot make the cgroups that engines make; the process and its network namespace are real.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <optional>
#include <sstream>

#include "support/fake_proc.h"
#include "support/finder.h"
#include "support/manual_clock.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using testing_support::FakeProc;
using testing_support::FinderBy;
using testing_support::ManualClock;
using testing_support::Sandbox;

struct OptOutTest : testing::Test {
  OptOutTest() {
    const pid_t pid = process.pid();
    const std::string real = "/proc/" + std::to_string(pid) + "/";
    fake.start(::getpid(), testing_support::netns_of(::getpid()));
    fake.start(pid, process.netns());
    const std::string link = fmt::format("{}/{}/ns/net:[{}]", fake.path(), pid, process.netns());
    std::filesystem::create_symlink(real + "ns/net", link);
    for (const char* file : {"stat", "status", "cmdline", "uid_map"}) {
      std::ostringstream text;
      text << std::ifstream(real + file).rdbuf();
      fake.write(pid, file, text.str());
    }
    fake.write(pid, "comm", "server\n");
    fake.write(pid, "cgroup",
               "0::/user.slice/libpod-" + std::string(64, 'd') + ".scope/container\n");
  }
  static Discovery::Options without_hints() {
    Discovery::Options options;
    options.exec_hints = false;
    return options;
  }

  const std::string kOptOut = std::string("PATH=/bin\0PORTFWD=off\0", 22);
  FakeProc fake;
  Sandbox process;
  std::optional<FinderBy<ManualClock>> finder;
};

/// The runtime that becomes the program by exec has the same pid, and may have been read before.
/// The exec may not be reported, and later scans of a young process wait for CPU time, which they
/// never get here: the clock does not advance.
TEST_F(OptOutTest, IsReadAgainAfterTheRuntimeHasExecutedTheProgram) {
  fake.write(process.pid(), "environ", std::string("PATH=/bin\0", 10));
  finder.emplace(without_hints(), fake.path());
  ASSERT_TRUE(finder->until([&] { return finder->facts.of(process.pid()) != nullptr; }));
  fake.write(process.pid(), "environ", kOptOut);
  finder->start();
  const Container* found = finder->wait_for(process.netns());
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->engine, "podman");
  EXPECT_TRUE(finder->until([&] { return !finder->discovery.opt_outs().all().empty(); }));
}

}  // namespace
}  // namespace portfwd
