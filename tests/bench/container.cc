#include "bench/container.h"

#include <fmt/core.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bench/place.h"
#include "support/own_namespaces.h"

namespace portfwd::bench {
namespace {

constexpr int kAnswerFd = 3;

void answer(int fd, Clock::time_point when) {
  ::send(fd, &when, sizeof when, MSG_NOSIGNAL);
}

}  // namespace

void enter_new_namespaces() {
  constexpr bool kKeepName = true;  // pasta does not run as root
  if (const int error =
          testing_support::enter_own_namespaces(CLONE_NEWUSER | CLONE_NEWNET, kKeepName)) {
    give_up(fmt::format("{} (unprivileged user namespaces are needed)", std::strerror(error)));
  }
  (void)testing_support::write_file("/proc/sys/net/ipv4/tcp_congestion_control", "reno");
}

pid_t fork_into_namespaces() {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  enter_new_namespaces();
  return 0;
}

void allow_all_descriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

/// What runs inside: listeners by port, the connected clients, and one server that was executed.
class Container::Inside {
 public:
  explicit Inside(UniqueFd orders) : orders_(std::move(orders)) {}

  [[noreturn]] void run() {
    for (;;) {
      std::vector<pollfd> waits{{orders_.get(), POLLIN, 0}};
      for (const auto& [port, fd] : listeners_) waits.push_back({fd.get(), POLLIN, 0});
      for (const UniqueFd& fd : clients_) waits.push_back({fd.get(), POLLIN, 0});
      if (::poll(waits.data(), waits.size(), -1) < 0) ::_exit(1);
      const std::size_t first_client = listeners_.size() + 1;
      for (std::size_t i = waits.size(); i-- > first_client;) {
        if (waits[i].revents != 0) clients_.erase(clients_.begin() + long(i - first_client));
      }
      for (std::size_t i = 1; i < first_client; ++i) {
        if (waits[i].revents != 0) greet(waits[i].fd);
      }
      if (waits[0].revents != 0) obey();
    }
  }

 private:
  void greet(int listener) {
    UniqueFd client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    ::send(client.get(), "!", 1, MSG_NOSIGNAL);
    clients_.push_back(std::move(client));
  }

  void obey() {
    Order order{};
    if (::recv(orders_.get(), &order, sizeof order, 0) != sizeof order) ::_exit(0);
    Clock::time_point when = Clock::now();
    if (order.op == Op::Open) {
      listeners_[order.port] = listen_at({.port = order.port});
      when = Clock::now();
    } else if (order.op == Op::Close) {
      listeners_.erase(order.port);
    } else if (order.op == Op::Exec) {
      return exec(order.port);  // the server itself answers
    } else {
      ::kill(server_, SIGKILL);
      ::waitpid(server_, nullptr, 0);
    }
    answer(orders_.get(), when);
  }

  void exec(std::uint16_t port) {
    server_ = ::fork();
    if (server_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(orders_.get(), kAnswerFd);
    const std::string text = std::to_string(port);
    ::execl("/proc/self/exe", "server", "serve", text.c_str(), nullptr);
    ::_exit(127);
  }

  UniqueFd orders_;
  std::map<std::uint16_t, UniqueFd> listeners_;
  std::vector<UniqueFd> clients_;
  pid_t server_ = -1;
};

Container::Container() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    give_up("socketpair failed");
  }
  orders_ = UniqueFd(ends[0]);
  UniqueFd theirs(ends[1]);
  pid_ = fork_into_namespaces();
  if (pid_ == 0) live(std::move(theirs));
  theirs.reset();
  receive();
}

void Container::live(UniqueFd orders) {
  ::close_range(3, static_cast<unsigned>(orders.get()) - 1, 0);  // the other containers', the bus's
  ::close_range(static_cast<unsigned>(orders.get()) + 1, ~0U, 0);
  allow_all_descriptors();
  answer(orders.get(), Clock::now());
  Inside(std::move(orders)).run();
}

Clock::time_point Container::tell(Op op, std::uint16_t port) {
  const Order order{op, port};
  ::send(orders_.get(), &order, sizeof order, MSG_NOSIGNAL);
  return receive();
}

Clock::time_point Container::receive() {
  Clock::time_point when{};
  if (::recv(orders_.get(), &when, sizeof when, 0) != sizeof when) give_up("a container is gone");
  return when;
}

Clock::time_point Container::open(std::uint16_t port) {
  return tell(Op::Open, port);
}
Clock::time_point Container::close(std::uint16_t port) {
  return tell(Op::Close, port);
}
Clock::time_point Container::exec_server(std::uint16_t port) {
  return tell(Op::Exec, port);
}
void Container::end_server() {
  tell(Op::End, 0);
}

void Container::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(std::exchange(pid_, -1), nullptr, 0);
}

void serve_if_asked(int argc, char** argv) {
  if (argc != 3 || std::string_view(argv[1]) != "serve") return;
  const UniqueFd listener = listen_at({.port = static_cast<std::uint16_t>(std::atoi(argv[2]))});
  answer(kAnswerFd, Clock::now());
  for (;;) {
    const UniqueFd client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ::send(client.get(), "!", 1, MSG_NOSIGNAL);
    char end = 0;
    (void)!::recv(client.get(), &end, 1, 0);
  }
}

}  // namespace portfwd::bench
