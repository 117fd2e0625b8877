// Containers that are replaced by another one of the same name: recognized when the first one ends,
// or not at all.
#include <gtest/gtest.h>

#include "support/finder.h"
#include "support/kept_process.h"

namespace portfwd {
namespace {

using testing_support::Finder;
using testing_support::KeptProcess;
using testing_support::Sandbox;
using testing_support::TempDir;

/// A shell with the name podman and these arguments, which waits until it is ended.
class PodmanCommand {
 public:
  explicit PodmanCommand(const std::vector<std::string>& arguments) {
    const std::string program = folder_.path() + "/podman";
    std::filesystem::create_symlink("/bin/sh", program);
    std::string script = folder_.path() + "/script";
    std::ofstream(script) << "exec 3>&-\nread never\n";
    std::array<int, 2> executed{}, input{};
    EXPECT_EQ(::pipe2(executed.data(), 0) | ::pipe2(input.data(), O_CLOEXEC), 0);
    const UniqueFd read_end(executed[0]);
    UniqueFd write_end(executed[1]);
    const UniqueFd its_input(input[0]);
    input_ = UniqueFd(input[1]);
    pid_ = ::fork();
    if (pid_ == 0) run(program, script, arguments, its_input.get(), write_end.get());
    write_end.reset();
    char none = 0;
    EXPECT_EQ(::read(read_end.get(), &none, 1), 0) << "closed once it is executed";
  }
  PodmanCommand(const PodmanCommand&) = delete;
  PodmanCommand& operator=(const PodmanCommand&) = delete;
  ~PodmanCommand() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

 private:
  [[noreturn]] static void run(const std::string& program, std::string script,
                               std::vector<std::string> arguments, int input, int executed) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::string name = "podman";
    std::vector<char*> argv{name.data(), script.data()};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::dup2(input, STDIN_FILENO);
    ::dup2(executed, 3);
    if (executed != 3) ::close(executed);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }

  TempDir folder_;
  UniqueFd input_;
  pid_t pid_ = -1;
};

struct ReplacedContainer : testing::Test {
  /// The reason that the log gives for the removal of container "web".
  RemovalReason end_of_web() {
    KeptProcess process(sandbox, id, "web");
    sandbox.end();
    finder.start();
    EXPECT_TRUE(finder.until([&] { return finder.by_netns(netns) != nullptr; }));
    before_the_end();
    process.end();
    EXPECT_TRUE(finder.wait_gone(netns));
    return finder.log.lines.back().reason;
  }

  const std::string id = std::string(64, 'e');
  Sandbox sandbox;
  const std::uint64_t netns = sandbox.netns();
  Finder finder;
  std::function<void()> before_the_end = [] {};
};

TEST_F(ReplacedContainer, IsReportedForPodmanRunReplace) {
  const PodmanCommand command({"run", "-d", "--replace", "--name", "web", "image"});
  EXPECT_EQ(end_of_web(), RemovalReason::Replaced);
}

TEST_F(ReplacedContainer, IsNotReportedForAnotherName) {
  const PodmanCommand command({"run", "-d", "--replace", "--name", "db", "image"});
  EXPECT_EQ(end_of_web(), RemovalReason::Gone);
}

TEST_F(ReplacedContainer, IsReportedWhenTheSuccessorExists) {
  before_the_end = [this] { finder.registry.expect_successor("podman", id.substr(0, 12)); };
  EXPECT_EQ(end_of_web(), RemovalReason::Replaced);
}

TEST_F(ReplacedContainer, IsNotReportedForAnotherEngine) {
  before_the_end = [this] { finder.registry.expect_successor("docker", "web"); };
  EXPECT_EQ(end_of_web(), RemovalReason::Gone);
}

}  // namespace
}  // namespace portfwd
