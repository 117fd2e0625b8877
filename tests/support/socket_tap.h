// A source of sockets in the test's own namespace that can be made to run dry. It replaces a
// broker's pool where the namespace is not under test.
#pragma once

#include <netinet/tcp.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "broker/client/socket_pool.h"
#include "support/streams.h"

namespace portfwd::testing_support {

class SocketTap final : public SocketSource {
 public:
  explicit SocketTap(int type = SOCK_STREAM) : type_(type) {}
  [[nodiscard]] UniqueFd acquire(Family family) override {
    return dry_ ? UniqueFd() : tuned_socket(family);
  }
  void await(Family family, SocketWaiter& waiter) override {
    takers_.emplace_back(family, &waiter);
  }
  void withdraw(SocketWaiter& waiter) noexcept override {
    std::erase_if(takers_, [&](const auto& waiting) { return waiting.second == &waiter; });
  }

  void run_dry() { dry_ = true; }
  [[nodiscard]] std::size_t waiting() const { return takers_.size(); }
  /// Serves all waiting requests.
  void refill() {
    dry_ = false;
    for (; !takers_.empty(); takers_.pop_front()) {
      takers_.front().second->on_socket(tuned_socket(takers_.front().first));
    }
  }
  /// Fails all requests that are waiting now.
  void fail_with(int error) {
    for (auto left = takers_.size(); left > 0; --left) {
      SocketWaiter* waiter = takers_.front().second;
      takers_.pop_front();
      waiter->on_socket(std::unexpected(Error{error, "socket"}));
    }
  }

 private:
  [[nodiscard]] UniqueFd tuned_socket(Family family) const {
    UniqueFd fd = new_socket(family, type_);
    const int on = 1;
    if (type_ == SOCK_DGRAM) return fd;
    EXPECT_EQ(::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
    EXPECT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
    return fd;
  }

  int type_;
  std::deque<std::pair<Family, SocketWaiter*>> takers_;
  bool dry_ = false;
};

}  // namespace portfwd::testing_support
