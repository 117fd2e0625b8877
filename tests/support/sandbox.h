// A child process in namespaces of its own, like a container. It lives until end() or the
// destructor, and dies with the test. The code under test is not known here.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <utility>

#include "base/unique_fd.h"
#include "support/own_namespaces.h"

namespace portfwd::testing_support {

/// Inode of a process's network namespace; 0 when it is not visible.
inline std::uint64_t netns_of(const std::string& pid) {
  struct stat st {};
  return ::stat(("/proc/" + pid + "/ns/net").c_str(), &st) == 0 ? st.st_ino : 0;
}
inline std::uint64_t netns_of(pid_t pid) {
  return netns_of(std::to_string(pid));
}

class Sandbox {
 public:
  static constexpr int kUserAndNet = CLONE_NEWUSER | CLONE_NEWNET;

  /// Returns once the child has unshared `flags` (root there is our user) and has run `inside`,
  /// whose result is answer(). 0 unshares nothing. The child reads nothing else from peer(): a test
  /// can use it for its own protocol.
  explicit Sandbox(int flags = kUserAndNet, const std::function<int()>& inside = {}) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      ADD_FAILURE() << "socketpair: " << std::strerror(errno);
      return;
    }
    peer_ = UniqueFd(ends[0]);
    UniqueFd theirs(ends[1]);
    const UniqueFd test = pidfd_of(::getpid());
    pid_ = ::fork();
    if (pid_ == 0) run(test.get(), flags, inside, std::move(theirs));
    theirs.reset();
    int error = ECHILD;
    std::array<int, 2> report{};
    if (::recv(peer_.get(), report.data(), sizeof report, 0) == sizeof report) error = report[0];
    if (error != 0) {
      ADD_FAILURE() << "unshare: " << std::strerror(error)
                    << " (these tests need unprivileged user namespaces)";
    }
    answer_ = report[1];
  }
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  ~Sandbox() {
    end();
    if (other_.valid()) ::syscall(SYS_pidfd_send_signal, other_.get(), SIGKILL, nullptr, 0);
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int answer() const { return answer_; }
  [[nodiscard]] std::uint64_t netns() const { return netns_of(pid_); }

  enum class Do { Unshare, Fork, Exec };
  /// Unshare: creates a user and a network namespace. Fork: starts a second process there, which
  /// lives until the destructor even if the first one ends. Exec: executes `sleep`.
  /// @return the errno of Unshare, the pid of Fork, else 0
  int tell(Do what) {
    int reply = 0;
    ::send(peer_.get(), &what, sizeof what, MSG_NOSIGNAL);
    if (what != Do::Exec) ::recv(peer_.get(), &reply, sizeof reply, 0);
    if (what == Do::Fork) other_ = pidfd_of(reply);
    return reply;
  }

  /// Kills the child. @param reap false leaves a zombie until the destructor
  void end(bool reap = true) {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    if (!reap) return;
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

 private:
  [[noreturn]] static void run(int test, int flags, const std::function<int()>& inside,
                               UniqueFd theirs) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::array<int, 2> report{enter_own_namespaces(flags), 0};
    if (report[0] == 0 && inside) report[1] = inside();
    ::send(theirs.get(), report.data(), sizeof report, MSG_NOSIGNAL);
    Do what{};
    while (::recv(theirs.get(), &what, sizeof what, 0) == sizeof what) {
      if (what == Do::Exec) ::execl("/bin/sleep", "sleep", "1000", nullptr);
      const int reply = what == Do::Fork ? fork_another(test) : enter_own_namespaces(kUserAndNet);
      ::send(theirs.get(), &reply, sizeof reply, MSG_NOSIGNAL);
    }
    for (;;) ::pause();
  }

  /// Forks a process that ends with the test at the latest. @param test pidfd of the test
  static pid_t fork_another(int test) {
    const pid_t pid = ::fork();
    if (pid != 0) return pid;
    pollfd end{test, POLLIN, 0};
    ::poll(&end, 1, -1);
    ::_exit(0);
  }

  static UniqueFd pidfd_of(pid_t pid) {
    return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  }

  UniqueFd peer_;
  UniqueFd other_;  ///< pidfd of the process made by Fork
  pid_t pid_ = -1;
  int answer_ = 0;
};

}  // namespace portfwd::testing_support
