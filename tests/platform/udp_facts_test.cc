// Properties of UDP sockets on which the relay relies, in a new namespace.
#include <gtest/gtest.h>
#include <linux/netlink.h>

#include "kernel/datagrams.h"
#include "kernel/destroy_events.h"
#include "kernel/sock_diag.h"
#include "support/datagram_sockets.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct UdpFacts : testing::TestWithParam<Family> {
  /// A socket bound to the loopback address of the namespace.
  [[nodiscard]] UniqueFd bound(Port port = 0) const {
    UniqueFd fd = ns.socket(address_family(GetParam()), SOCK_DGRAM);
    const SockAddr address = to_sockaddr({IpAddress::loopback(GetParam()), port});
    EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0) << std::strerror(errno);
    return fd;
  }
  [[nodiscard]] UniqueFd connected(const Endpoint& to) const {
    UniqueFd fd = ns.socket(address_family(GetParam()), SOCK_DGRAM);
    EXPECT_EQ(try_connect(fd, to), 0);
    return fd;
  }
  static Endpoint address_of(const UniqueFd& fd) { return *portfwd::local_endpoint(fd.get()); }

  TestNetns ns;
};
struct UdpPortFacts : UdpFacts {};
struct UdpSockDiagFacts : UdpFacts {
  SockDiag diag{ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)};
};

TEST_P(UdpPortFacts, ASocketConnectedToItselfKeepsItsPortAndRefuses) {
  const UniqueFd port = bound(7000);
  const UniqueFd client = connected(address_of(port));
  ASSERT_EQ(send_one(client, "before"), 0);
  const SockAddr itself = to_sockaddr(address_of(port));
  ASSERT_EQ(::connect(port.get(), itself.get(), itself.length), 0);
  ASSERT_EQ(send_one(client, "refused"), 0);
  EXPECT_EQ(take_one(client).error, ECONNREFUSED);
  const UniqueFd rival = ns.socket(address_family(GetParam()), SOCK_DGRAM);
  EXPECT_EQ(::bind(rival.get(), itself.get(), itself.length), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  EXPECT_EQ(take_one(port).text, "before") << "connecting does not empty the queue";
  SockAddr nobody;
  nobody.storage.ss_family = AF_UNSPEC;
  ASSERT_EQ(::connect(port.get(), nobody.get(), sizeof(sockaddr)), 0);
  EXPECT_EQ(address_of(port).port, 7000);
  ASSERT_EQ(send_one(client, "after"), 0);
  EXPECT_EQ(take_one(port).text, "after");
}

TEST_P(UdpPortFacts, APortBoundWithoutReuseCannotBeShared) {
  const UniqueFd port = bound(7000);
  const UniqueFd rival = ns.socket(address_family(GetParam()), SOCK_DGRAM);
  const int on = 1;
  ASSERT_EQ(::setsockopt(rival.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  ASSERT_EQ(::setsockopt(rival.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on), 0);
  for (const IpAddress& at : {IpAddress::loopback(GetParam()), IpAddress::any(GetParam())}) {
    const SockAddr address = to_sockaddr({at, 7000});
    EXPECT_EQ(::bind(rival.get(), address.get(), address.length), -1);
    EXPECT_EQ(errno, EADDRINUSE);
  }
}

TEST_P(UdpPortFacts, ARefusalIsReportedBeforeEarlierAnswers) {
  UniqueFd server = bound();
  const UniqueFd client = connected(address_of(server));
  ASSERT_EQ(send_one(client, "?"), 0);
  ASSERT_EQ(send_one_to(server, "answer", address_of(client)), 0);
  server.reset();
  ASSERT_EQ(send_one(client, "?"), 0);
  EXPECT_EQ(take_one(client).error, ECONNREFUSED);
  EXPECT_EQ(take_one(client).text, "answer");
}

TEST_P(UdpSockDiagFacts, ADumpOfUdpHasOnlyUnconnectedSockets) {
  const UniqueFd server = bound(7000);
  const UniqueFd client = connected(address_of(server));
  const UniqueFd unbound = ns.socket(address_family(GetParam()), SOCK_DGRAM);
  const UniqueFd tcp = ns.listen({IpAddress::loopback(GetParam()), 7000});
  const auto found = diag.listeners(Protocol::Udp);
  ASSERT_TRUE(found) << found.error().text();
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().local, address_of(server));
  EXPECT_EQ(found->front().state, kUdpUnconnected);
  EXPECT_EQ(found->front().cookie, *socket_cookie(server.get()));
  EXPECT_EQ(found->front().inode, *socket_inode(server.get()));
}

TEST_P(UdpSockDiagFacts, AUdpLookupFindsTheReceiverOfTheAnswer) {
  const UniqueFd server = bound(7000);
  const UniqueFd client = connected(address_of(server));
  const UniqueFd free = bound();
  for (const UniqueFd* sender : {&client, &free}) {
    const auto owner = diag.lookup(address_of(*sender), address_of(server), Protocol::Udp);
    ASSERT_TRUE(owner && *owner);
    EXPECT_EQ((*owner)->inode, *socket_inode(sender->get()));
  }
  const Endpoint nobody{IpAddress::loopback(GetParam()), 9};
  const auto owner = diag.lookup(nobody, address_of(server), Protocol::Udp);
  ASSERT_TRUE(owner);
  EXPECT_FALSE(*owner);
}

TEST_P(UdpSockDiagFacts, TheCloseOfAUdpSocketIsReportedToTheGroup) {
  DestroyEvents events(ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
  UniqueFd server = bound(7000);
  const auto cookie = *socket_cookie(server.get());
  const std::array<Port, 1> ports{7000};
  ASSERT_TRUE(events.filter(ports));
  ASSERT_TRUE(events.join(true));
  server.reset();
  ASSERT_TRUE(wait_for(events.fd(), POLLIN));
  EXPECT_EQ(events.drain().cookies, std::vector{cookie});
}

TEST_P(UdpFacts, DatagramsSentTogetherArriveOneByOneWithoutGro) {
  const UniqueFd server = bound();
  const UniqueFd client = connected(address_of(server));
  const std::string four = "aabbccd";
  const Datagrams together{bytes_of(four), 2};
  const auto sent = send_datagrams(client.get(), std::span(&together, 1));
  EXPECT_EQ(sent.error, 0);
  EXPECT_EQ(sent.bytes, 7U);
  for (const char* const one : {"aa", "bb", "cc", "d"}) EXPECT_EQ(take_one(server).text, one);
}

TEST_P(UdpFacts, DatagramsSentTogetherArriveTogetherWithGro) {
  const UniqueFd server = bound();
  receive_together(server.get());
  const UniqueFd client = connected(address_of(server));
  const std::string four = "aabbccd";
  const Datagrams together{bytes_of(four), 2};
  (void)send_datagrams(client.get(), std::span(&together, 1));
  DatagramReceiver receiver;
  const auto got = receiver.receive(server.get());
  ASSERT_TRUE(got);
  ASSERT_EQ(got->messages.size(), 1U);
  EXPECT_EQ(got->messages[0].each, 2U);
  EXPECT_EQ(got->messages[0].count(), 4U);
  EXPECT_EQ(got->ends[0].from, address_of(client));
}

std::string family_name(const testing::TestParamInfo<Family>& info) {
  return info.param == Family::V4 ? "V4" : "V6";
}
constexpr std::array kFamilies{Family::V4, Family::V6};
INSTANTIATE_TEST_SUITE_P(Each, UdpFacts, testing::ValuesIn(kFamilies), family_name);
INSTANTIATE_TEST_SUITE_P(Each, UdpPortFacts, testing::ValuesIn(kFamilies), family_name);
INSTANTIATE_TEST_SUITE_P(Each, UdpSockDiagFacts, testing::ValuesIn(kFamilies), family_name);

}  // namespace
}  // namespace portfwd
