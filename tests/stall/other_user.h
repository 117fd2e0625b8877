// The other ordinary user of the stall tests: a process that was forked while the tests were still
// root, and starts commands as that user. A command is a captureless function, which is valid on
// both sides of fork(2). stop() ends everything that it has started.
#pragma once

#include <grp.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "base/unique_fd.h"

namespace portfwd::testing_support {

inline constexpr int kNice = -15;  ///< of all processes of the stall tests

/// Changes from root to an ordinary user without supplementary groups.
/// @return errno or 0
inline int become_user(uid_t uid) {
  if (::setgroups(0, nullptr) != 0) return errno;
  if (::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0) return errno;
  ::prctl(PR_SET_DUMPABLE,
          1);  // cleared by the change of user; needed for access to /proc/self
  return 0;
}

class OtherUser {
 public:
  /// A command; runs in a process of its own. It writes one int to `ready` when it is set up, and
  /// may continue until SIGTERM.
  using Command = void (*)(int ready, int argument);

  static void start(uid_t uid) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return;
    if (::fork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(ends[0]);
      serve(become_user(uid), ends[1]);
    }
    ::close(ends[1]);
    peer() = UniqueFd(ends[0]);
  }

  /// Runs a command.
  /// @return the int that it wrote; -1 if it ended before
  static int run(Command what, int argument = 0) { return ask({what, argument}); }
  /// Sends SIGTERM to all processes that it has started, and waits for the commands to end.
  static void stop() { ask({}); }

 private:
  struct Order {
    Command what = nullptr;
    int argument = 0;
  };

  static UniqueFd& peer() {
    static UniqueFd fd;
    return fd;
  }

  static int ask(const Order& order) {
    int reply = -1;
    EXPECT_EQ(::send(peer().get(), &order, sizeof order, MSG_NOSIGNAL), ssize_t{sizeof order});
    EXPECT_EQ(::recv(peer().get(), &reply, sizeof reply, 0), ssize_t{sizeof reply});
    return reply;
  }

  [[noreturn]] static void serve(int error, int peer) {
    pid_t group = 0;
    Order order;
    while (::recv(peer, &order, sizeof order, 0) == sizeof order) {
      int reply = error == 0 ? 0 : -error;
      if (error == 0 && order.what != nullptr) reply = launch(order, group);
      if (order.what == nullptr && group != 0) {
        ::kill(-group, SIGTERM);
        while (::waitpid(-group, nullptr, 0) > 0) {
        }
        group = 0;
      }
      ::send(peer, &reply, sizeof reply, MSG_NOSIGNAL);
    }
    ::_exit(0);
  }

  static int launch(const Order& order, pid_t& group) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) return -1;
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::setpgid(0, group);
      ::close(ends[0]);
      order.what(ends[1], order.argument);
      ::_exit(0);
    }
    ::setpgid(pid, group);  // parent and child both set it: either may run first
    if (group == 0) group = pid;
    ::close(ends[1]);
    int reply = -1;
    if (::read(ends[0], &reply, sizeof reply) != sizeof reply) reply = -1;
    ::close(ends[0]);
    return reply;
  }
};

}  // namespace portfwd::testing_support
