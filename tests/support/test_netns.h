// A network namespace of the test's own, with lo up: a child process joins it and makes sockets
// there on request. A socket belongs to the namespace in which it was made, so the test itself
// binds, listens and connects. The child dies with the test. The code under test is not known here.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/unique_fd.h"
#include "broker/client/broker_launcher.h"
#include "net/address.h"
#include "support/own_namespaces.h"

namespace portfwd::testing_support {

class TestNetns {
 public:
  TestNetns() {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      ADD_FAILURE() << "socketpair: " << std::strerror(errno);
      return;
    }
    ours_ = UniqueFd(ends[0]);
    UniqueFd theirs(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) serve(std::move(theirs));
    theirs.reset();
    int error = ECHILD;
    if (::recv(ours_.get(), &error, sizeof error, 0) != sizeof error || error != 0) {
      ADD_FAILURE() << "no namespace: " << std::strerror(error)
                    << " (these tests need unprivileged user namespaces)";
    }
  }
  TestNetns(const TestNetns&) = delete;
  TestNetns& operator=(const TestNetns&) = delete;
  ~TestNetns() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  [[nodiscard]] pid_t pid() const { return pid_; }

  /// A non-blocking socket made inside.
  [[nodiscard]] UniqueFd socket(int family, int type, int protocol = 0) const {
    UniqueFd fd = ask({family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol, 0});
    EXPECT_TRUE(fd.valid()) << "no socket from the namespace";
    return fd;
  }
  /// Makes and closes `count` sockets inside, one after the other.
  void churn(int type, int count) const { (void)ask({AF_INET, type | SOCK_CLOEXEC, 0, count}); }

  /// Opens a listener inside; `local.port` 0 uses a free one, see local_endpoint().
  [[nodiscard]] UniqueFd listen(const Endpoint& local, bool v6only = false) const {
    UniqueFd fd = socket(address_family(local.address.family()), SOCK_STREAM);
    const int only = v6only ? 1 : 0;
    const int reuse = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (local.address.family() == Family::V6) {
      EXPECT_EQ(::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only), 0);
    }
    const SockAddr address = to_sockaddr(local);
    EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0) << std::strerror(errno);
    EXPECT_EQ(::listen(fd.get(), 16), 0) << std::strerror(errno);
    return fd;
  }

  /// Opens a Unix listener. An abstract name is in the namespace; a path is that of the test.
  [[nodiscard]] UniqueFd listen_unix(const Address& name, int type = SOCK_STREAM,
                                     int backlog = 16) const {
    UniqueFd fd = socket(AF_UNIX, type);
    bind_unix(fd, name);
    EXPECT_EQ(::listen(fd.get(), backlog), 0) << std::strerror(errno);
    return fd;
  }
  static void bind_unix(const UniqueFd& fd, const Address& name) {
    const auto address = sockaddr_of(name);
    ASSERT_TRUE(address) << name.text();
    EXPECT_EQ(::bind(fd.get(), address->get(), address->length), 0)
        << name.text() << ": " << std::strerror(errno);
  }

 private:
  struct Wanted {
    int family;
    int type;
    int protocol;
    int before;  ///< number of others that are made and closed before it
  };
  [[nodiscard]] UniqueFd ask(const Wanted& wanted) const {
    ::send(ours_.get(), &wanted, sizeof wanted, MSG_NOSIGNAL);
    UniqueFd fd = receive_fd();
    int copy_closed = 0;
    ::recv(ours_.get(), &copy_closed, sizeof copy_closed, 0);
    return fd;
  }

  [[noreturn]] static void serve(UniqueFd theirs) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int error = enter_own_namespaces(CLONE_NEWUSER | CLONE_NEWNET);
    ::send(theirs.get(), &error, sizeof error, MSG_NOSIGNAL);
    Wanted wanted{};
    while (::recv(theirs.get(), &wanted, sizeof wanted, 0) == sizeof wanted) {
      const auto make = [&] {
        return UniqueFd(::socket(wanted.family, wanted.type, wanted.protocol));
      };
      for (int i = 0; i < wanted.before; ++i) (void)make();
      send_fd(theirs.get(), make());
      // Our own copy is closed here, so the test holds the only one.
      ::send(theirs.get(), &error, sizeof error, MSG_NOSIGNAL);
    }
    ::_exit(0);
  }

  static void send_fd(int peer, const UniqueFd& fd) {
    const int number = fd.get();
    const std::span<const int> along(&number, fd.valid() ? 1 : 0);
    (void)send_with_fds(peer, std::as_bytes(std::span("", 1)), along);
  }

  [[nodiscard]] UniqueFd receive_fd() const {
    pollfd ready{ours_.get(), POLLIN, 0};
    ::poll(&ready, 1, -1);
    std::array<std::byte, 1> byte{};
    auto got = receive_with_fds(ours_.get(), byte);
    return got.fds.empty() ? UniqueFd() : std::move(got.fds.front());
  }

  UniqueFd ours_;
  pid_t pid_ = -1;
};

/// The address a socket is bound to.
inline Endpoint local_endpoint(const UniqueFd& fd) {
  SockAddr address;
  address.length = sizeof address.storage;
  EXPECT_EQ(::getsockname(fd.get(), address.get(), &address.length), 0);
  return from_sockaddr(address).value_or(Endpoint{});
}

/// Connects and waits for the end of the handshake, which on a busy machine may come after
/// connect(2) has returned, even on loopback.
inline void connect_to(const UniqueFd& fd, const Endpoint& remote) {
  const SockAddr address = to_sockaddr(remote);
  if (::connect(fd.get(), address.get(), address.length) == 0) return;
  EXPECT_EQ(errno, EINPROGRESS) << std::strerror(errno);
  pollfd connected{fd.get(), POLLOUT, 0};
  EXPECT_EQ(::poll(&connected, 1, 10'000), 1);
}

}  // namespace portfwd::testing_support
