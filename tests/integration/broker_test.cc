// The real broker, started by the real client, making sockets in real namespaces.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>

#include "broker/client/broker_messages.h"
#include "broker/client/broker_set.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::TestNetns;
using Sockets = Result<BrokerClient::Sockets>;

UniqueFd open_netns(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

std::uint64_t netns_cookie(const UniqueFd& socket) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  EXPECT_EQ(::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size), 0);
  return cookie;
}

struct BrokerTest : testing::Test {
  ~BrokerTest() override {
    while (launcher->dying() != 0) (void)loop.turn(1s);
  }
  std::shared_ptr<BrokerClient> enter(const UniqueFd& netns) {
    auto client = brokers.enter(netns.get());
    EXPECT_TRUE(client.has_value()) << client.error().text();
    return client.value_or(nullptr);
  }
  /// Asks and waits for the answer.
  Sockets ask(BrokerClient& client, const broker::Request& request, int fd) {
    std::optional<Sockets> answer;
    const BrokerCall call =
        client.call(request, fd, [&answer](Sockets sockets) { answer = std::move(sockets); });
    const TimePoint limit = clock.now() + 20s;
    while (!answer && clock.now() < limit) EXPECT_TRUE(loop.turn(1s));
    if (!answer) return fail("no answer within 20 s", ETIME);
    return std::move(*answer);
  }

  SystemClock clock;
  EventLoop loop{clock};
  std::shared_ptr<SpawnLauncher> launcher =
      std::make_shared<SpawnLauncher>(loop, PORTFWD_BROKER_PATH);
  BrokerSet brokers{loop, launcher, NamespaceOwner::this_process()};
};

TEST_F(BrokerTest, ASocketConnectsToTheContainersOwnLoopback) {
  const TestNetns container;
  const UniqueFd listener = container.listen({IpAddress::loopback(Family::V4), 0});
  const UniqueFd netns = open_netns(container.pid());
  const auto client = enter(netns);
  ASSERT_TRUE(client);
  const Sockets made = ask(*client, stream_sockets(Family::V4, 3), netns.get());
  ASSERT_TRUE(made) << made.error().text();
  ASSERT_EQ(made->size(), 3u);
  for (const UniqueFd& socket : *made) {
    EXPECT_EQ(netns_cookie(socket), netns_cookie(listener));
    EXPECT_NE(::fcntl(socket.get(), F_GETFL) & O_NONBLOCK, 0);
    EXPECT_NE(::fcntl(socket.get(), F_GETFD) & FD_CLOEXEC, 0);
  }
  testing_support::connect_to(made->front(), testing_support::local_endpoint(listener));
  const UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_TRUE(accepted.valid());
}

}  // namespace
}  // namespace portfwd
