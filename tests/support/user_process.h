// A process of another user with one TCP connection or UDP socket, which executes the test's orders
// and answers with an errno. For tests that run as root; it dies with the test. The code under test
// is not known here.
#pragma once

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "support/streams.h"

namespace portfwd::testing_support {

class UserProcess {
 public:
  enum class Userns { Shared, Own };

  explicit UserProcess(uid_t uid, Userns userns = Userns::Shared) {
    auto [ours, theirs] = stream_pair(StreamKind::Unix);
    ours_ = std::move(ours);
    pid_ = ::fork();
    if (pid_ == 0) {
      ours_.reset();
      serve(uid, userns, theirs);
    }
    EXPECT_EQ(ask({}), 0) << "could not become user " << uid;
  }
  UserProcess(const UserProcess&) = delete;
  UserProcess& operator=(const UserProcess&) = delete;
  ~UserProcess() {
    ours_.reset();  // the process ends when it reads the end of file
    ::waitpid(pid_, nullptr, 0);
  }

  /// @param from its own port, 0 for any. @return errno or 0
  int connect(const Endpoint& to, Port from = 0, Protocol protocol = Protocol::Tcp) {
    return ask({Op::Connect, to, from, protocol});
  }
  int send() { return ask({.op = Op::Send}); }  ///< kGreeting
  int shut_down() { return ask({.op = Op::ShutDown}); }
  int close() { return ask({.op = Op::Close}); }
  int reset() { return ask({.op = Op::Reset}); }
  /// Reads to the end, which must come. @return ECONNRESET for a reset, 0 for a FIN
  int read_to_end() { return ask({.op = Op::ReadToEnd}); }
  /// Waits for the first bytes. @return errno or 0; ENODATA for a FIN
  int read_some() { return ask({.op = Op::ReadSome}); }
  Port local_port() { return static_cast<Port>(ask({.op = Op::LocalPort})); }

  static constexpr std::string_view kGreeting = "from a client";

 private:
  enum class Op { Nothing, Connect, Send, ShutDown, Close, Reset, ReadToEnd, ReadSome, LocalPort };
  struct Command {
    Op op = Op::Nothing;
    Endpoint to{};
    Port from = 0;
    Protocol protocol = Protocol::Tcp;
  };

  int ask(const Command& command) {
    int answer = ENODATA;
    ::send(ours_.get(), &command, sizeof command, MSG_NOSIGNAL);
    EXPECT_TRUE(wait_for(ours_.get(), POLLIN));
    ::recv(ours_.get(), &answer, sizeof answer, 0);
    return answer;
  }

  [[noreturn]] static void serve(uid_t uid, Userns userns, const UniqueFd& theirs) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int failure =
        ::seteuid(0) == 0 && ::setgroups(0, nullptr) == 0 && ::setresuid(uid, uid, uid) == 0
            ? 0
            : errno;
    if (failure == 0 && userns == Userns::Own) failure = become_root_of_own_userns(uid);
    UniqueFd connection;
    Command command;
    while (wait_for(theirs.get(), POLLIN, -1) &&
           ::recv(theirs.get(), &command, sizeof command, 0) == sizeof command) {
      const int answer = failure != 0 ? failure : obey(command, connection);
      ::send(theirs.get(), &answer, sizeof answer, MSG_NOSIGNAL);
    }
    ::_exit(0);
  }

  static int become_root_of_own_userns(uid_t uid) {
    ::prctl(PR_SET_DUMPABLE, 1);  // the change of user cleared it: no access to /proc/self
    if (::unshare(CLONE_NEWUSER) != 0) return errno;
    const UniqueFd map(::open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC));
    const std::string line = "0 " + std::to_string(uid) + " 1";
    if (::write(map.get(), line.data(), line.size()) < 0) return errno;
    return ::setresuid(0, 0, 0) == 0 ? 0 : errno;
  }

  static int obey(const Command& command, UniqueFd& connection) {
    const auto result = [](int returned) { return returned < 0 ? errno : 0; };
    switch (command.op) {
      case Op::Nothing:
        return 0;
      case Op::Connect:
        return open_connection(command, connection);
      case Op::Send:
        return result(static_cast<int>(
            ::send(connection.get(), kGreeting.data(), kGreeting.size(), MSG_NOSIGNAL)));
      case Op::ShutDown:
        return result(::shutdown(connection.get(), SHUT_WR));
      case Op::Close:
        connection.reset();
        return 0;
      case Op::Reset:
        testing_support::reset(connection);
        return 0;
      case Op::ReadToEnd:
        return drain(connection);
      case Op::ReadSome:
        return read_once(connection);
      case Op::LocalPort:
        return local_endpoint(connection.get()).value_or(Endpoint{}).port;
    }
    return EINVAL;
  }

  static int open_connection(const Command& command, UniqueFd& connection) {
    const Family family = command.to.address.family();
    const bool tcp = command.protocol == Protocol::Tcp;
    connection = new_socket(family, tcp ? SOCK_STREAM : SOCK_DGRAM);
    const int reuse = tcp ? 1 : 0;
    ::setsockopt(connection.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    const SockAddr own = to_sockaddr({IpAddress::loopback(family), command.from});
    if (::bind(connection.get(), own.get(), own.length) != 0) return errno;
    const int begun = try_connect(connection, command.to);
    if (begun != EINPROGRESS) return begun;
    return wait_for(connection.get(), POLLOUT) ? take_socket_error(connection.get()) : ETIMEDOUT;
  }

  static int drain(const UniqueFd& connection) {
    std::array<char, 256> buffer;
    while (wait_for(connection.get(), POLLIN)) {
      const ssize_t n = ::recv(connection.get(), buffer.data(), buffer.size(), 0);
      if (n <= 0) return n == 0 ? 0 : errno;
    }
    return ETIMEDOUT;
  }

  static int read_once(const UniqueFd& connection) {
    std::array<char, 256> buffer;
    if (!wait_for(connection.get(), POLLIN)) return ETIMEDOUT;
    const ssize_t n = ::recv(connection.get(), buffer.data(), buffer.size(), 0);
    return n > 0 ? 0 : n == 0 ? ENODATA : errno;
  }

  UniqueFd ours_;
  pid_t pid_ = -1;
};

}  // namespace portfwd::testing_support
