// A D-Bus daemon of the test's own, on a socket in a folder of its own, which activates nothing
// unless the test requests it. It dies with the test. The code under test is not known here.
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
#include <fstream>
#include <string>
#include <utility>

#include "base/unique_fd.h"
#include "support/temp_dir.h"

namespace portfwd::testing_support {

class PrivateBus {
 public:
  /// @param activate_by the Exec= line for org.portfwd1; empty: nothing is activated
  explicit PrivateBus(const std::string& activate_by = {}) {
    write_configuration(activate_by);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      ADD_FAILURE() << "pipe2: " << std::strerror(errno);
      return;
    }
    const UniqueFd ready(ends[0]);
    UniqueFd theirs(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) run(theirs.get());
    theirs.reset();
    char byte = 0;
    if (::read(ready.get(), &byte, 1) != 1) {  // it prints its address once it listens
      ADD_FAILURE() << "dbus-daemon did not start (is the package dbus-daemon installed?): "
                    << std::ifstream(file("log")).rdbuf();
    }
  }
  PrivateBus(const PrivateBus&) = delete;
  PrivateBus& operator=(const PrivateBus&) = delete;
  ~PrivateBus() { end(); }

  [[nodiscard]] std::string address() const { return "unix:path=" + file("bus"); }
  [[nodiscard]] const std::string& folder() const { return folder_.path(); }

  /// Kills the bus; its clients see their connections end.
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

 private:
  /// Policy and limit of session.conf; any user who can reach the socket may connect.
  static constexpr const char* kPolicy = R"(
    <policy context="default">
      <allow user="*"/>
      <allow send_destination="*" eavesdrop="true"/>
      <allow eavesdrop="true"/>
      <allow own="*"/>
    </policy>
    <limit name="max_replies_per_connection">50000</limit>)";

  [[nodiscard]] std::string file(const char* name) const { return folder() + "/" + name; }

  void write_configuration(const std::string& activate_by) const {
    std::ofstream(file("bus.conf"))
        << "<busconfig><type>session</type><listen>" << address() << "</listen><servicedir>"
        << folder() << "</servicedir>" << kPolicy << "</busconfig>";
    if (activate_by.empty()) return;
    std::ofstream(file("org.portfwd1.service"))
        << "[D-BUS Service]\nName=org.portfwd1\nExec=" << activate_by << "\n";
  }

  [[noreturn]] void run(int ready) const {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::fcntl(ready, F_SETFD, 0);
    ::dup2(::open(file("log").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), STDERR_FILENO);
    const std::string config = "--config-file=" + file("bus.conf");
    const std::string print = "--print-address=" + std::to_string(ready);
    ::execlp("dbus-daemon", "dbus-daemon", "--nofork", "--nopidfile", config.c_str(), print.c_str(),
             nullptr);
    ::_exit(127);
  }

  TempDir folder_;
  pid_t pid_ = -1;
};

}  // namespace portfwd::testing_support
