// Dialling of real listeners: order, refusals, deadlines, sockets that arrive late, another
// namespace.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netinet/tcp.h>

#include <string>
#include <vector>

#include "kernel/sock_diag.h"
#include "relay/dialer.h"
#include "relay/netns_dialer.h"
#include "support/addresses.h"
#include "support/deadline.h"
#include "support/socket_tap.h"
#include "support/test_netns.h"
#include "support/veth.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

/// Sockets of a new network namespace, like those of a container.
struct ContainerSockets final : SocketSource {
  [[nodiscard]] UniqueFd acquire(Family family) override {
    return ns->socket(address_family(family), type);
  }
  void await(Family, SocketWaiter&) override { ADD_FAILURE() << "never dry"; }
  void withdraw(SocketWaiter&) noexcept override {}
  std::unique_ptr<TestNetns> ns = std::make_unique<TestNetns>();
  int type = SOCK_STREAM;
};

struct DialerTest : testing::Test, DialHandler {
  void on_dialled(Result<UniqueFd> connected) override {
    EXPECT_FALSE(dialling) << "called from within dial()";
    EXPECT_FALSE(outcome) << "called twice";
    outcome = std::move(connected);
  }
  Result<UniqueFd>& dial(std::vector<Address> candidates, Duration limit = 20s) {
    start(candidates, limit);
    const TimePoint deadline = loop.now() + kDeadline;
    while (!outcome && loop.now() < deadline) EXPECT_TRUE(loop.turn(20ms));
    if (!outcome) outcome = fail("the test waited in vain", ETIME);
    return *outcome;
  }
  void start(const std::vector<Address>& candidates, Duration limit = 20s) {
    dialling = true;
    outcome.reset();
    start_with(dialer, candidates, limit);
    dialling = false;
  }
  void start_with(NetnsDialer& by, std::span<const Address> candidates, Duration limit = 20s) {
    DialStart start = by.dial(candidates, loop.now() + limit, *this);
    EXPECT_EQ(start.connected.valid(), start.attempt == nullptr);
    attempt = std::move(start.attempt);
    if (start.connected.valid()) outcome = std::move(start.connected);
  }
  /// A port where nothing listens or can listen, since it stays bound.
  Endpoint refusing(Family family) {
    UniqueFd fd = new_socket(family);
    const SockAddr address = to_sockaddr({IpAddress::loopback(family), 0});
    EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0);
    held.push_back(std::move(fd));
    return *portfwd::local_endpoint(held.back().get());
  }

  SystemClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  SocketTap sockets;
  NetnsDialer dialer{context, sockets};
  std::optional<Result<UniqueFd>> outcome;
  std::unique_ptr<Dial> attempt;
  std::vector<UniqueFd> held;
  bool dialling = false;
};

TEST_F(DialerTest, ReturnsAConnectedHostSocketWithNagleOff) {
  const UniqueFd listener = listen_on_loopback(Family::V4);
  HostSockets host(context);
  NetnsDialer to_host(context, host);
  start_with(to_host, addresses(*portfwd::local_endpoint(listener.get())));
  ASSERT_TRUE(outcome) << "on loopback a target accepts within the call";
  auto& got = *outcome;
  ASSERT_TRUE(got) << got.error().text();
  const UniqueFd accepted = accept_from(listener);
  write_all(*got, "hello");
  Received received;
  read_available(accepted, received);
  EXPECT_EQ(received.text, "hello");
  int nodelay = 0;
  socklen_t length = sizeof nodelay;
  ::getsockopt(got->get(), IPPROTO_TCP, TCP_NODELAY, &nodelay, &length);
  EXPECT_EQ(nodelay, 1);
}

TEST_F(DialerTest, TriesTheNextCandidateAfterARefusal) {
  const UniqueFd listener = listen_on_loopback(Family::V6);
  const Endpoint there = *portfwd::local_endpoint(listener.get());
  auto& got = dial({refusing(Family::V4), refusing(Family::V6), there});
  ASSERT_TRUE(got) << got.error().text();
  EXPECT_EQ(peer_endpoint(got->get()), there);
}

TEST_F(DialerTest, ReportsTheLastRefusalWhenAllRefuse) {
  auto& got = dial({refusing(Family::V4), refusing(Family::V6)});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ECONNREFUSED);
}

TEST_F(DialerTest, AnAddressWithoutARouteFailsLaterNotWithinTheCall) {
  auto& got = dial({{IpAddress::v4(192, 0, 2, 1), 80}});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ENETUNREACH);
}

TEST_F(DialerTest, AListenerThatDoesNotAnswerTimesOut) {
  const UniqueFd full = listen_at({IpAddress::loopback(Family::V4), 0}, 0);
  const Endpoint there = *portfwd::local_endpoint(full.get());
  const UniqueFd queued = connect_to_port(there);  // the whole backlog; the next SYN is dropped
  auto& got = dial({there}, 50ms);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ETIMEDOUT);
}

TEST_F(DialerTest, WaitsForASocketWhenNoneIsAvailable) {
  const UniqueFd listener = listen_on_loopback(Family::V4);
  sockets.run_dry();
  start({*portfwd::local_endpoint(listener.get())});
  ASSERT_EQ(sockets.waiting(), 1U);
  sockets.refill();
  while (!outcome) ASSERT_TRUE(loop.turn(1s));
  EXPECT_TRUE(*outcome);
}

TEST_F(DialerTest, WaitingForASocketCountsAgainstTheDeadline) {
  sockets.run_dry();
  auto& got = dial({{IpAddress::loopback(Family::V4), 1}}, 10ms);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code, ETIMEDOUT);
  EXPECT_EQ(sockets.waiting(), 0U);
}

TEST_F(DialerTest, TriesTheOtherFamilyWhenOneHasNoSockets) {
  const UniqueFd listener = listen_on_loopback(Family::V4);
  sockets.run_dry();
  start({{IpAddress::loopback(Family::V6), 1}, *portfwd::local_endpoint(listener.get())});
  sockets.fail_with(EAFNOSUPPORT);
  ASSERT_EQ(sockets.waiting(), 1U);
  sockets.refill();
  while (!outcome) ASSERT_TRUE(loop.turn(1s));
  EXPECT_TRUE(*outcome);
}

TEST_F(DialerTest, FailsWithoutSockets) {
  sockets.run_dry();
  start({{IpAddress::loopback(Family::V4), 1}});
  sockets.fail_with(ESRCH);
  while (!outcome) ASSERT_TRUE(loop.turn(1s));
  ASSERT_FALSE(*outcome);
  EXPECT_EQ(outcome->error().code, ESRCH);
}

TEST_F(DialerTest, ADestroyedDialIsCancelled) {
  const UniqueFd listener = listen_on_loopback(Family::V4);
  start({*portfwd::local_endpoint(listener.get())});
  attempt.reset();
  sockets.run_dry();
  start({{IpAddress::loopback(Family::V4), 1}});
  attempt.reset();
  EXPECT_EQ(sockets.waiting(), 0U);
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_FALSE(outcome);
}

TEST_F(DialerTest, TreatsAConnectionToItselfAsARefusal) {
  struct BoundSockets final : SocketSource {
    UniqueFd acquire(Family family) override {
      UniqueFd fd = new_socket(family);
      const SockAddr address = to_sockaddr({IpAddress::loopback(family), 9999});
      EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0);
      return fd;
    }
    void await(Family, SocketWaiter&) override {}
    void withdraw(SocketWaiter&) noexcept override {}
  } bound;
  NetnsDialer to_itself(context, bound);
  start_with(to_itself, addresses(Endpoint{IpAddress::loopback(Family::V4), 9999}));
  while (!outcome) ASSERT_TRUE(loop.turn(1s));
  ASSERT_FALSE(*outcome);
  EXPECT_EQ(outcome->error().code, ECONNREFUSED);
}

TEST_F(DialerTest, ReachesLoopbackOfAnotherNamespaceUntilItIsClosed) {
  ContainerSockets container;
  UniqueFd listener = container.ns->listen({IpAddress::loopback(Family::V4), 8080});
  NetnsDialer inwards(context, container);
  const auto there = addresses(Endpoint{IpAddress::loopback(Family::V4), 8080});
  start_with(inwards, there);
  while (!outcome) ASSERT_TRUE(loop.turn(1s));
  ASSERT_TRUE(*outcome);
  EXPECT_TRUE(accept_from(listener).valid());

  outcome.reset();
  const UniqueFd left_over = container.acquire(Family::V4);
  listener.reset();
  struct LastSocket final : SocketSource {
    explicit LastSocket(int f) : fd(f) {}
    UniqueFd acquire(Family) override { return UniqueFd(::dup(fd)); }
    void await(Family, SocketWaiter&) override {}
    void withdraw(SocketWaiter&) noexcept override {}
    int fd;
  } last(left_over.get());
  container.ns.reset();
  NetnsDialer too_late(context, last);
  start_with(too_late, there);
  while (!outcome) ASSERT_TRUE(loop.turn(1s));
  EXPECT_FALSE(*outcome);
}

/// With listeners as the kernel reports them to the daemon.
struct InterfaceDialerTest : DialerTest, testing::WithParamInterface<Protocol> {};

INSTANTIATE_TEST_SUITE_P(Of, InterfaceDialerTest, testing::Values(Protocol::Tcp, Protocol::Udp),
                         [](const auto& which) {
                           return which.param == Protocol::Tcp ? "Tcp" : "Udp";
                         });

TEST_P(InterfaceDialerTest, ReachesAListenerThatIsBoundToAnInterface) {
  const bool tcp = GetParam() == Protocol::Tcp;
  ContainerSockets container;
  container.type = tcp ? SOCK_STREAM : SOCK_DGRAM;
  NetnsDialer inwards(context, container);
  const Veth veth(container.ns->pid(), 1);
  run("nsenter --net=/proc/" + std::to_string(container.ns->pid()) +
      "/ns/net ip address add fe80::5/64 dev eth1 nodad");
  const IpAddress link_local = *IpAddress::parse("fe80::5");
  Port port = 8080;
  const auto dial_at = [&](const IpAddress& at) {
    const UniqueFd bound = container.ns->socket(address_family(at.family()), container.type);
    EXPECT_EQ(::setsockopt(bound.get(), SOL_SOCKET, SO_BINDTODEVICE, "eth1", 5), 0);
    const SockAddr address = to_sockaddr({at, port++});
    EXPECT_EQ(::bind(bound.get(), address.get(), address.length), 0) << at.text();
    EXPECT_TRUE(!tcp || ::listen(bound.get(), 8) == 0);
    SockDiag diag(container.ns->socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
    const auto found = diag.listeners(GetParam());
    EXPECT_TRUE(found && found->size() == 1);
    EXPECT_NE(found->front().local.interface, 0U);
    const ListenAddress there{found->front().local, true};
    outcome.reset();
    start_with(inwards, dial_order(Family::V4, std::span(&there, 1)));
    while (!outcome) EXPECT_TRUE(loop.turn(1s));
    if (!*outcome) return outcome->error().code;
    if (tcp) return accept_from(bound).valid() ? 0 : ENODATA;
    // An interface that has just been set up drops packets until the kernel has processed the
    // change.
    const TimePoint deadline = loop.now() + kDeadline;
    do {
      EXPECT_EQ(::send(outcome->value().get(), "?", 1, 0), 1);
    } while (!wait_for(bound.get(), POLLIN, 50) && loop.now() < deadline);
    char got = 0;
    return ::recv(bound.get(), &got, 1, MSG_DONTWAIT) == 1 ? 0 : ENODATA;
  };
  EXPECT_EQ(dial_at(link_local), 0);
  EXPECT_EQ(dial_at(veth.v4()), 0);
  EXPECT_EQ(dial_at(veth.v6()), 0);
  EXPECT_EQ(dial_at(IpAddress::any(Family::V4)), 0);
  EXPECT_EQ(dial_at(IpAddress::any(Family::V6)), ENETUNREACH) << "it has no address to dial";
}

}  // namespace
}  // namespace portfwd
