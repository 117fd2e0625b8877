// A port that is held, with and without listening on it: bind, listen and connect.
#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include "support/streams.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace testing_support;

constexpr Endpoint kPort{IpAddress::loopback(Family::V4), 8080};

struct HostPortFacts : testing::Test {
  [[nodiscard]] UniqueFd open(bool reuse) const {
    UniqueFd fd = ns.socket(AF_INET, SOCK_STREAM);
    set_reuse(fd, reuse);
    return fd;
  }
  static void set_reuse(const UniqueFd& fd, bool on) {
    const int value = on ? 1 : 0;
    ASSERT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &value, sizeof value), 0);
  }
  static int bind_to(const UniqueFd& fd, const Endpoint& at) {
    const SockAddr address = to_sockaddr(at);
    return ::bind(fd.get(), address.get(), address.length) == 0 ? 0 : errno;
  }
  static int listen_on(const UniqueFd& fd) { return ::listen(fd.get(), 8) == 0 ? 0 : errno; }
  [[nodiscard]] int connect_now() const {
    const UniqueFd fd = ns.socket(AF_INET, SOCK_STREAM);
    const int error = try_connect(fd, kPort);
    if (error != EINPROGRESS) return error;
    EXPECT_TRUE(wait_for(fd.get(), POLLOUT));
    return take_socket_error(fd.get());
  }

  TestNetns ns;
};

TEST_F(HostPortFacts, ABoundSocketThatDoesNotListenRefuses) {
  const UniqueFd held = open(true);
  ASSERT_EQ(bind_to(held, kPort), 0);
  EXPECT_EQ(connect_now(), ECONNREFUSED);
}

TEST_F(HostPortFacts, AListenerThatIsShutDownKeepsItsPortAndRefuses) {
  const UniqueFd held = open(true);
  ASSERT_EQ(bind_to(held, kPort), 0);
  ASSERT_EQ(listen_on(held), 0);
  EXPECT_EQ(connect_now(), 0);
  ASSERT_EQ(::shutdown(held.get(), SHUT_RDWR), 0);
  EXPECT_EQ(connect_now(), ECONNREFUSED);
  set_reuse(held, false);
  EXPECT_EQ(bind_to(open(true), kPort), EADDRINUSE);
  set_reuse(held, true);
  ASSERT_EQ(listen_on(held), 0) << "and it may listen again";
  EXPECT_EQ(connect_now(), 0);
}

TEST_F(HostPortFacts, SocketsWithReuseShareAPortWithoutAListener) {
  const UniqueFd held = open(true);
  ASSERT_EQ(bind_to(held, kPort), 0);
  const UniqueFd other = open(true);
  EXPECT_EQ(bind_to(other, kPort), 0) << "so SO_REUSEADDR must be off while we refuse";
  EXPECT_EQ(listen_on(other), 0);
  EXPECT_EQ(listen_on(held), EADDRINUSE);
}

/// The listen(2) is necessary on 5.10 and 6.1: until then the port keeps the SO_REUSEADDR that its
/// owner had at bind(2). 6.12, 6.18 and 7.3 refuse without it as well.
TEST_F(HostPortFacts, WithoutReuseAHeldPortIsExclusive) {
  const UniqueFd held = open(true);
  ASSERT_EQ(bind_to(held, kPort), 0);
  ASSERT_EQ(listen_on(held), 0);
  set_reuse(held, false);
  ASSERT_EQ(::shutdown(held.get(), SHUT_RDWR), 0);
  EXPECT_EQ(bind_to(open(true), kPort), EADDRINUSE);
  EXPECT_EQ(bind_to(open(true), {IpAddress::any(Family::V4), kPort.port}), EADDRINUSE);
  EXPECT_EQ(listen_on(held), 0) << "without old connections no reuse is needed";
}

TEST_F(HostPortFacts, ConnectionsAcceptedWithoutReuseBlockThePort) {
  const UniqueFd before = open(false);
  ASSERT_EQ(bind_to(before, kPort), 0);
  ASSERT_EQ(listen_on(before), 0);
  const UniqueFd client = ns.socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(try_connect(client, kPort), EINPROGRESS);
  const UniqueFd accepted = accept_from(before);
  ASSERT_EQ(::shutdown(before.get(), SHUT_RDWR), 0);
  set_reuse(before, true);
  EXPECT_EQ(bind_to(open(true), kPort), EADDRINUSE);
  set_reuse(accepted, true);
  EXPECT_EQ(bind_to(open(true), kPort), 0);
}

TEST_F(HostPortFacts, ListeningNeedsReuseAgainWhileOldConnectionsLast) {
  const UniqueFd before = open(true);
  ASSERT_EQ(bind_to(before, kPort), 0);
  ASSERT_EQ(listen_on(before), 0);
  const UniqueFd client = ns.socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(try_connect(client, kPort), EINPROGRESS);
  const UniqueFd accepted = accept_from(before);
  ASSERT_EQ(::shutdown(before.get(), SHUT_RDWR), 0);
  set_reuse(before, false);
  EXPECT_EQ(listen_on(before), EADDRINUSE);
  set_reuse(before, true);
  EXPECT_EQ(listen_on(before), 0);
}

TEST_F(HostPortFacts, AListenerOnTheWildcardBlocksLoopback) {
  const UniqueFd wildcard = open(true);
  ASSERT_EQ(bind_to(wildcard, {IpAddress::any(Family::V4), kPort.port}), 0);
  ASSERT_EQ(listen_on(wildcard), 0);
  EXPECT_EQ(bind_to(open(true), kPort), EADDRINUSE);
}

TEST_F(HostPortFacts, AcceptedSocketsInheritNagleAndCongestionControl) {
  const UniqueFd listener = open(true);
  const int on = 1;
  ASSERT_EQ(::setsockopt(listener.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
  ASSERT_EQ(::setsockopt(listener.get(), IPPROTO_TCP, TCP_CONGESTION, "reno", 4), 0);
  ASSERT_EQ(bind_to(listener, kPort), 0);
  ASSERT_EQ(listen_on(listener), 0);
  const UniqueFd client = ns.socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(try_connect(client, kPort), EINPROGRESS);
  const UniqueFd accepted = accept_from(listener);
  int nodelay = 0;
  socklen_t length = sizeof nodelay;
  ASSERT_EQ(::getsockopt(accepted.get(), IPPROTO_TCP, TCP_NODELAY, &nodelay, &length), 0);
  EXPECT_EQ(nodelay, 1);
  std::array<char, 16> congestion{};
  length = congestion.size();
  ASSERT_EQ(::getsockopt(accepted.get(), IPPROTO_TCP, TCP_CONGESTION, congestion.data(), &length),
            0);
  EXPECT_STREQ(congestion.data(), "reno");
}

TEST_F(HostPortFacts, AConnectFromAPortToItselfSucceeds) {
  const UniqueFd fd = open(true);
  ASSERT_EQ(bind_to(fd, kPort), 0);
  ASSERT_EQ(try_connect(fd, kPort), EINPROGRESS);
  ASSERT_TRUE(wait_for(fd.get(), POLLOUT));
  EXPECT_EQ(take_socket_error(fd.get()), 0)
      << "nothing listens: a dialer must not take it for a server";
  EXPECT_EQ(portfwd::local_endpoint(fd.get()), peer_endpoint(fd.get()));
}

}  // namespace
}  // namespace portfwd
