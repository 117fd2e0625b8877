// A dev server that restarts repeatedly while clients connect: a client that connects while it is
// down is held instead of refused.
#include <fcntl.h>

#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using namespace std::chrono_literals;

/// Serves the clients in the backlog, as servers do that end in order, then closes.
int end_in_order(BoxInside& inside, const BoxArgument& argument) {
  inside.listeners.remove_if([&](const BoxInside::Listening& l) {
    if (l.at.port != argument.at.port) return false;
    for (;;) {
      UniqueFd client(::accept4(l.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client.valid()) return true;
      ::send(client.get(), "served\n", 7, MSG_NOSIGNAL);
      inside.clients.push_back(std::move(client));
    }
  });
  return 0;
}

class SystemRestart : public SystemTest {
 protected:
  static constexpr Port kPort = 8080;
  static constexpr std::size_t kClients = 300;
  static constexpr Duration kBetweenClients = 10ms;  // 100 a second

  struct Client {
    UniqueFd fd;
    Received got;
    [[nodiscard]] bool served() const { return got.text.ends_with('\n'); }
    [[nodiscard]] bool over() const { return served() || got.ending != Ending::None; }
  };

  void come() {
    Client& client = clients_.emplace_back(new_socket(Family::V4));
    const int outcome = try_connect(client.fd, {kV4, kPort});
    EXPECT_TRUE(outcome == 0 || outcome == EINPROGRESS) << std::strerror(outcome);
    if (clients_.size() < kClients) next_client_.arm_after(kBetweenClients);
  }
  /// Stops or starts the server after varying times, so that clients connect at every point of a
  /// restart.
  void restart() {
    if (up_) {
      box_.tell(end_in_order, {.at = {kV4, kPort}});
    } else {
      EXPECT_EQ(box_.open(kPort), 0);
    }
    up_ = !up_;
    ++restarts_;
    if (clients_.size() < kClients || !up_) next_restart_.arm_after(7ms + restarts_ % 13 * 5ms);
  }
  bool all_over() {
    for (Client& client : clients_) {
      if (!client.over()) read_available(client.fd, client.got);
    }
    return clients_.size() == kClients &&
           std::ranges::all_of(clients_, [](const Client& c) { return c.over(); });
  }

  Box box_;
  std::vector<Client> clients_;
  bool up_ = true;
  int restarts_ = 0;
  Timer next_client_{loop_, [this] { come(); }};
  Timer next_restart_{loop_, [this] { restart(); }};
};

TEST_F(SystemRestart, HoldsEveryClientWhileTheServerIsDown) {
  configure("[host]\nlinger = \"30s\"\nhold = \"30s\"\n");
  start();
  ASSERT_EQ(box_.open(kPort), 0);
  ASSERT_TRUE(wait_for_added(kPort));
  next_client_.arm_now();
  next_restart_.arm_now();
  ASSERT_TRUE(until([&] { return all_over(); }));
  const auto served = std::ranges::count_if(clients_, [](const Client& c) { return c.served(); });
  const Json connections = forward_of(kPort)["connections"];
  std::printf("%d restarts, %zu clients, %td served: %s\n", restarts_ / 2, kClients, served,
              connections.dump().c_str());
  EXPECT_EQ(connections["failed"], 0) << "refused by a server that was about to come back";
  EXPECT_EQ(connections["refused"], 0);
  EXPECT_EQ(connections["total"], kClients);
  EXPECT_GE(served, static_cast<std::ptrdiff_t>(kClients) - 3)
      << "only the server itself may drop one, between its last accept and its close";
}

}  // namespace
}  // namespace portfwd
