// The server of load.h and its container: one process, level-triggered epoll.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <map>
#include <vector>

#include "bench/container.h"
#include "bench/load.h"

namespace portfwd::bench {
namespace {

constexpr std::size_t kChunk = 128 * 1024;
constexpr int kChunksPerTurn = 8;

class LoadServer {
 public:
  explicit LoadServer(UniqueFd listener)
      : listener_(std::move(listener)), epoll_(::epoll_create1(EPOLL_CLOEXEC)), buffer_(kChunk) {
    watch(EPOLL_CTL_ADD, listener_.get(), EPOLLIN);
  }

  [[noreturn]] void run() {
    std::array<epoll_event, 256> events{};
    for (;;) {
      const int n = ::epoll_wait(epoll_.get(), events.data(), int(events.size()), -1);
      for (int i = 0; i < n; ++i) {
        const int fd = events[std::size_t(i)].data.fd;
        if (fd == listener_.get()) {
          accept_all();
        } else if (!serve(fd)) {
          clients_.erase(fd);
        }
      }
    }
  }

 private:
  struct Client {
    UniqueFd fd;
    std::uint32_t kind = 0;
    bool told = false;  ///< the header was read
  };

  void watch(int op, int fd, std::uint32_t mask) {
    epoll_event event{.events = mask, .data = {.fd = fd}};
    ::epoll_ctl(epoll_.get(), op, fd, &event);
  }

  void accept_all() {
    const int on = 1;
    for (int i = 0; i < 64; ++i) {
      UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd.valid()) return;
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      const int number = fd.get();
      clients_[number].fd = std::move(fd);
      watch(EPOLL_CTL_ADD, number, EPOLLIN);
    }
  }

  /// @return whether the client is still connected
  bool serve(int fd) {
    Client& client = clients_.at(fd);
    if (!client.told && !read_header(client)) return errno == EAGAIN;
    switch (static_cast<LoadKind>(client.kind)) {
      case LoadKind::Up:
        return swallow(fd);
      case LoadKind::Down:
        return pour(fd);
      default:
        return echo(fd);
    }
  }

  bool read_header(Client& client) {
    errno = 0;
    if (::recv(client.fd.get(), &client.kind, sizeof client.kind, 0) != sizeof client.kind) {
      return false;  // four bytes sent at once arrive together
    }
    client.told = true;
    if (static_cast<LoadKind>(client.kind) == LoadKind::Down) {
      watch(EPOLL_CTL_MOD, client.fd.get(), EPOLLOUT);
    }
    return true;
  }

  bool swallow(int fd) {
    for (int i = 0; i < kChunksPerTurn; ++i) {
      const ssize_t n = ::recv(fd, buffer_.data(), buffer_.size(), 0);
      if (n <= 0) return n < 0 && errno == EAGAIN;
    }
    return true;
  }

  bool pour(int fd) {
    for (int i = 0; i < kChunksPerTurn; ++i) {
      if (::send(fd, buffer_.data(), buffer_.size(), MSG_NOSIGNAL) < 0) return errno == EAGAIN;
    }
    return true;
  }

  bool echo(int fd) {
    const ssize_t n = ::recv(fd, buffer_.data(), buffer_.size(), 0);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    return ::send(fd, buffer_.data(), std::size_t(n), MSG_NOSIGNAL) == n;
  }

  UniqueFd listener_;
  UniqueFd epoll_;
  std::vector<char> buffer_;
  std::map<int, Client> clients_;
};

}  // namespace

void serve_loads(UniqueFd listener) {
  LoadServer(std::move(listener)).run();
}

LoadContainer::LoadContainer(std::uint16_t port) : pid_(fork_into_namespaces()) {
  if (pid_ == 0) serve_loads(listen_at({.address = "0.0.0.0", .port = port}, SOCK_NONBLOCK));
}

LoadContainer::~LoadContainer() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace portfwd::bench
