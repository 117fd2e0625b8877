// A child process in namespaces of its own, as a container would be: it lives until end() or the
// destructor, and dies with the test. It knows nothing of the code under test.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

namespace portfwd::testing_support {

/// Inode of a process's network namespace; 0 when it cannot be seen.
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

  /// Returns once the child has unshared `flags` (root there is our user) and run `inside`, whose
  /// result is answer(). 0 unshares nothing. The child serves peer() no further: use it for a
  /// protocol of one's own.
  explicit Sandbox(int flags = kUserAndNet, const std::function<int(int peer)>& inside = {}) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      ADD_FAILURE() << "socketpair: " << std::strerror(errno);
      return;
    }
    peer_ = UniqueFd(ends[0]);
    UniqueFd theirs(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) run(flags, inside, std::move(theirs));
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
  ~Sandbox() { end(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int answer() const { return answer_; }
  /// Our end of the socket pair whose other end `inside` was given.
  [[nodiscard]] int peer() const { return peer_.get(); }
  [[nodiscard]] std::uint64_t netns() const { return netns_of(pid_); }

  /// Kills the child. @param reap false leaves a zombie until the destructor
  void end(bool reap = true) {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    if (!reap) return;
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

 private:
  [[noreturn]] static void run(int flags, const std::function<int(int)>& inside, UniqueFd theirs) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::array<int, 2> report{};
    const std::string map = "0 " + std::to_string(::geteuid()) + " 1";
    const std::string group_map = "0 " + std::to_string(::getegid()) + " 1";
    if (flags != 0 && ::unshare(flags) != 0) report[0] = errno;
    if ((flags & CLONE_NEWUSER) != 0 &&
        report[0] == 0) {  // unmapped, it could make no others below
      write_file("/proc/self/setgroups", "deny");
      write_file("/proc/self/uid_map", map);
      write_file("/proc/self/gid_map", group_map);
    }
    if (report[0] == 0 && inside) report[1] = inside(theirs.get());
    ::send(theirs.get(), report.data(), sizeof report, MSG_NOSIGNAL);
    for (;;) ::pause();
  }

  static void write_file(const char* path, const std::string& text) {
    const UniqueFd fd(::open(path, O_WRONLY | O_CLOEXEC));
    if (::write(fd.get(), text.data(), text.size()) < 0) ::_exit(1);  // seen as ECHILD
  }

  UniqueFd peer_;
  pid_t pid_ = -1;
  int answer_ = 0;
};

}  // namespace portfwd::testing_support
