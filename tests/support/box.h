// A container as users have them: a process in namespaces of its own that holds listeners itself
// and answers its clients: with a greeting ("8080 here
// "), then with an echo of everything they send; over UDP only with the echo. The test controls it
// by captureless functions, which mean the same on both sides of fork(2). It dies with the test.
// The code under test is not known here.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "net/address.h"
#include "support/own_namespaces.h"
#include "support/streams.h"

namespace portfwd::testing_support {

/// Argument of a command; copied through a socket as it is.
struct BoxArgument {
  Endpoint at{};
  bool v6only = false;
  int number = 0;
  std::array<char, 600> text{};
};
static_assert(std::is_trivially_copyable_v<BoxArgument>);

/// State of the process inside.
struct BoxInside {
  struct Listening {
    Endpoint at;
    UniqueFd fd;
  };
  std::list<Listening> listeners;
  std::list<Listening> datagrams;  ///< UDP sockets
  std::vector<UniqueFd> clients;
  bool churning = false;  ///< opens and closes a port a thousand times a second
  Port churn_port = 0;
};

class Box {
 public:
  using Command = int (*)(BoxInside&, const BoxArgument&);
  static constexpr int kUserAndNet = CLONE_NEWUSER | CLONE_NEWNET;

  /// A container with namespaces of its own below the test's.
  Box() : Box(nullptr, kUserAndNet) {}
  /// A container of another user, for tests that run as root.
  static Box of_user(uid_t uid) { return Box(nullptr, kUserAndNet, uid); }
  /// A container with a network namespace of its own in the test's user namespace, as root creates
  /// them.
  static Box of_roots() { return Box(nullptr, CLONE_NEWNET); }
  /// A container below the other's namespaces.
  static Box nested_in(const Box& outer) { return Box(&outer, kUserAndNet); }
  /// A process in the test's own namespaces: not a container.
  static Box on_host() { return Box(nullptr, 0); }
  /// A second process in the other's namespaces.
  static Box beside(const Box& other) { return Box(&other, 0); }

  Box(const Box&) = delete;
  Box& operator=(const Box&) = delete;
  ~Box() { end(); }

  [[nodiscard]] pid_t pid() const { return pid_; }

  /// Kills the process, which closes its sockets, and waits until it has ended.
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(std::exchange(pid_, -1), nullptr, 0);
  }

  /// @return what the command returned inside; -1 when the process has ended
  int tell(Command what, const BoxArgument& argument = {}) const {
    const Order order{what, argument};
    ::send(peer_.get(), &order, sizeof order, MSG_NOSIGNAL);
    int reply = -1;
    ::recv(peer_.get(), &reply, sizeof reply, 0);
    return reply;
  }

  /// Opens a listener. @return errno or 0
  int open(const Endpoint& at, bool v6only = false) const {
    return tell(
        [](BoxInside& inside, const BoxArgument& a) { return open_inside(inside, a.at, a.v6only); },
        {at, v6only});
  }
  int open(Port port) const { return open({IpAddress::loopback(Family::V4), port}); }
  /// Binds a UDP socket. @return errno or 0
  int open_datagrams(const Endpoint& at) const {
    return tell([](BoxInside& inside, const BoxArgument& a) { return bind_inside(inside, a.at); },
                {at});
  }
  /// Opens a Unix listener: a path, or "@" and an abstract name. Its greeting is "0 here". @return
  /// errno or 0
  int open_unix(std::string_view name, int type = SOCK_STREAM) const {
    BoxArgument argument{.number = type};
    name.copy(argument.text.data(), argument.text.size() - 1);
    return tell([](BoxInside& inside, const BoxArgument& a) { return open_unix_inside(inside, a); },
                argument);
  }
  void close_unix() const { close(0); }
  void close_datagrams() const {
    tell([](BoxInside& inside, const BoxArgument&) {
      inside.datagrams.clear();
      return 0;
    });
  }
  void close(Port port) const {
    tell(
        [](BoxInside& inside, const BoxArgument& a) {
          inside.listeners.remove_if([&](const auto& l) { return l.at.port == a.at.port; });
          return 0;
        },
        {{IpAddress(), port}});
  }
  /// Changes /proc/PID/comm, to at most 15 bytes.
  void call_itself(std::string_view name) const {
    BoxArgument argument;
    name.copy(argument.text.data(), argument.text.size() - 1);
    tell([](BoxInside&, const BoxArgument& a) { return ::prctl(PR_SET_NAME, a.text.data()); },
         argument);
  }
  /// Adds an IPv4 address to lo. @return errno or 0
  int add_address(const IpAddress& address) const {
    return tell([](BoxInside&, const BoxArgument& a) { return add_to_lo(a.at); }, {{address, 0}});
  }

 private:
  struct Order {
    Command what;
    BoxArgument argument;
  };

  static constexpr uid_t kSameUser = ~uid_t{0};  ///< Source: setresuid(2), -1

  Box(const Box* other, int flags, uid_t uid = kSameUser)
      : namespaces_(other != nullptr ? other->namespaces_ : flags) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      ADD_FAILURE() << "socketpair: " << std::strerror(errno);
      return;
    }
    peer_ = UniqueFd(ends[0]);
    UniqueFd theirs(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) serve(other, flags, uid, theirs.get());
    theirs.reset();
    int error = ECHILD;
    if (::recv(peer_.get(), &error, sizeof error, 0) != sizeof error || error != 0) {
      ADD_FAILURE() << "no namespace: " << std::strerror(error)
                    << " (these tests need unprivileged user namespaces)";
    }
  }

  [[noreturn]] static void serve(const Box* other, int flags, uid_t uid, int peer) {
    int error = ::setresuid(uid, uid, uid) == 0 ? 0 : errno;
    ::prctl(PR_SET_DUMPABLE, 1);  // a change of user cleared that, and with it access to /proc/self
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "server");
    std::signal(SIGPIPE, SIG_IGN);
    const rlimit many{20000, 20000};
    ::setrlimit(RLIMIT_NOFILE, &many);
    if (error == 0) error = enter(other, flags);
    ::send(peer, &error, sizeof error, MSG_NOSIGNAL);
    close_all_but(peer);  // sockets of other boxes and of the test
    BoxInside inside;
    for (;;) turn(inside, peer);
  }

  static void close_all_but(int kept) {
    ::syscall(SYS_close_range, STDERR_FILENO + 1, kept - 1, 0);
    ::syscall(SYS_close_range, kept + 1, ~0U, 0);
  }

  /// @return errno or 0
  static int enter(const Box* other, int flags) {
    if (other != nullptr) {
      const UniqueFd there(static_cast<int>(::syscall(SYS_pidfd_open, other->pid_, 0)));
      if (::setns(there.get(), other->namespaces_) != 0) return errno;
    }
    if (flags == 0) return 0;
    return enter_own_namespaces(flags);
  }

  static int add_to_lo(const Endpoint& address) {
    const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq alias{};
    std::strcpy(alias.ifr_name, "lo:1");
    const SockAddr wanted = to_sockaddr(address);
    std::memcpy(&alias.ifr_addr, wanted.get(), wanted.length);
    return ::ioctl(any.get(), SIOCSIFADDR, &alias) == 0 ? 0 : errno;
  }

  static int open_inside(BoxInside& inside, const Endpoint& at, bool v6only) {
    UniqueFd fd(::socket(address_family(at.address.family()),
                         SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return errno;
    const int reuse = 1;
    const int only = v6only ? 1 : 0;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (at.address.family() == Family::V6) {
      ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    }
    const SockAddr address = to_sockaddr(at);
    if (::bind(fd.get(), address.get(), address.length) != 0) return errno;
    if (::listen(fd.get(), SOMAXCONN) != 0) return errno;
    inside.listeners.push_back({at, std::move(fd)});
    return 0;
  }

  static int open_unix_inside(BoxInside& inside, const BoxArgument& argument) {
    const std::string name = argument.text.data();
    const auto address = sockaddr_of(name.starts_with('@') ? Address(AbstractName{name.substr(1)})
                                                           : Address(UnixPath{name}));
    if (!address) return EINVAL;
    UniqueFd fd(::socket(AF_UNIX, argument.number | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd.valid()) return errno;
    if (::bind(fd.get(), address->get(), address->length) != 0) return errno;
    if (::listen(fd.get(), 5) != 0) return errno;
    inside.listeners.push_back({Endpoint{}, std::move(fd)});
    return 0;
  }

  static int bind_inside(BoxInside& inside, const Endpoint& at) {
    UniqueFd fd = new_socket(at.address.family(), SOCK_DGRAM);
    const SockAddr address = to_sockaddr(at);
    if (::bind(fd.get(), address.get(), address.length) != 0) return errno;
    inside.datagrams.push_back({at, std::move(fd)});
    return 0;
  }

  static void turn(BoxInside& inside, int peer) {
    std::vector<pollfd> waits{{peer, POLLIN, 0}};
    for (const auto& l : inside.listeners) waits.push_back({l.fd.get(), POLLIN, 0});
    for (const UniqueFd& c : inside.clients) waits.push_back({c.get(), POLLIN, 0});
    for (const auto& d : inside.datagrams) waits.push_back({d.fd.get(), POLLIN, 0});
    const int ready =
        ::poll(waits.data(), inside.churning ? 1 : waits.size(), inside.churning ? 1 : -1);
    if (inside.churning) churn(inside);
    if (ready > 0 && !inside.churning) serve_clients(inside, waits);
    for (const auto& d : inside.datagrams) echo_datagrams(d.fd);
    if (ready > 0 && waits[0].revents != 0) obey(inside, peer);
  }

  static void serve_clients(BoxInside& inside, const std::vector<pollfd>& waits) {
    std::size_t at = 1;
    for (const auto& l : inside.listeners) {
      if (waits[at++].revents != 0) greet(inside, l);
    }
    for (UniqueFd& c : inside.clients) {
      if (at < waits.size() && waits[at++].revents != 0) echo(c);
    }
    std::erase_if(inside.clients, [](const UniqueFd& c) { return !c.valid(); });
  }

  static void obey(BoxInside& inside, int peer) {
    Order order{};
    if (::recv(peer, &order, sizeof order, 0) != sizeof order) ::_exit(0);
    const int reply = order.what(inside, order.argument);
    ::send(peer, &reply, sizeof reply, MSG_NOSIGNAL);
  }

  static void churn(BoxInside& inside) {
    inside.listeners.remove_if([&](const auto& l) { return l.at.port == inside.churn_port; });
    open_inside(inside, {IpAddress::loopback(Family::V4), inside.churn_port}, false);
  }

  static void greet(BoxInside& inside, const BoxInside::Listening& listener) {
    UniqueFd client(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!client.valid()) return;
    const std::string words = std::to_string(listener.at.port) + " here\n";
    ::send(client.get(), words.data(), words.size(), MSG_NOSIGNAL);
    inside.clients.push_back(std::move(client));
  }

  static void echo_datagrams(const UniqueFd& fd) {
    std::array<char, 65536> bytes;
    SockAddr from;
    for (;;) {
      from.length = sizeof from.storage;
      const ssize_t got =
          ::recvfrom(fd.get(), bytes.data(), bytes.size(), 0, from.get(), &from.length);
      if (got < 0) return;
      ::sendto(fd.get(), bytes.data(), static_cast<std::size_t>(got), 0, from.get(), from.length);
    }
  }

  static void echo(UniqueFd& client) {
    std::array<char, 65536> bytes;
    const ssize_t got = ::recv(client.get(), bytes.data(), bytes.size(), 0);
    const auto size = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    if (got <= 0 || ::send(client.get(), bytes.data(), size, MSG_NOSIGNAL) < 0) client.reset();
  }

  const int namespaces_;  ///< those that it has of its own
  UniqueFd peer_;
  pid_t pid_ = -1;
};

}  // namespace portfwd::testing_support
