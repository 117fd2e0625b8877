// A process in a sandbox's namespaces whose parent outside of them is called conmon, as with
// podman's containers. Both die with the object or with the test.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include "support/sandbox.h"
#include "support/temp_dir.h"

namespace portfwd::testing_support {

class KeptProcess {
 public:
  /// @param id the container's, for conmon's command line; "" for no conmon
  KeptProcess(const Sandbox& in, const std::string& id, const std::string& name,
              const std::string& command = "sleep 1000") {
    const std::string conmon = folder_.path() + "/conmon";
    const std::string script = folder_.path() + "/script";
    std::filesystem::create_symlink("/bin/sh", conmon);
    std::ofstream(script) << "nsenter --target " << in.pid() << " --user --net "
                          << "--preserve-credentials " << command
                          << " & echo $! >&3; exec 3>&-; wait\n";
    std::array<int, 2> told{};
    EXPECT_EQ(::pipe2(told.data(), O_CLOEXEC), 0) << std::strerror(errno);
    const UniqueFd read_end(told[0]);
    UniqueFd write_end(told[1]);
    keeper_ = ::fork();
    if (keeper_ == 0) {
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::dup2(write_end.get(), 3);
      const char* program = id.empty() ? "/bin/sh" : conmon.c_str();
      ::execl(program, program, script.c_str(), "-c", id.c_str(), "-n", name.c_str(), nullptr);
      ::_exit(127);
    }
    write_end.reset();
    std::array<char, 32> text{};
    EXPECT_GT(::read(read_end.get(), text.data(), text.size() - 1), 0) << "it did not start";
    pid_ = static_cast<pid_t>(std::strtol(text.data(), nullptr, 10));
    EXPECT_TRUE(executed()) << "it does not run its command";
  }
  KeptProcess(const KeptProcess&) = delete;
  KeptProcess& operator=(const KeptProcess&) = delete;
  ~KeptProcess() { end(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] pid_t keeper() const { return keeper_; }
  void end() {
    if (keeper_ <= 0) return;
    ::kill(-keeper_, SIGKILL);
    ::waitpid(std::exchange(keeper_, -1), nullptr, 0);
  }

 private:
  /// Waits until the process has a name other than those of the processes that forked it and
  /// entered the sandbox. No event announces that.
  [[nodiscard]] bool executed() const {
    const auto name_of = [](pid_t pid) {
      std::string name;
      std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
      return name;
    };
    const auto runs = [&] {
      const std::string name = name_of(pid_);
      return name != name_of(keeper_) && name != "nsenter";
    };
    for (int i = 0; i < 10'000 && !runs(); ++i) ::poll(nullptr, 0, 1);
    return runs();
  }

  TempDir folder_;
  pid_t keeper_ = -1;
  pid_t pid_ = 0;
};

}  // namespace portfwd::testing_support
