// The PROXY protocol header, as a target reads it: every byte.
#include <gtest/gtest.h>

#include "relay/stream_port.h"
#include "support/forward_rig.h"

namespace portfwd {
namespace {

using namespace std::string_literals;
using namespace testing_support;

constexpr Endpoint kClient4{IpAddress::v4(127, 0, 0, 1), 0xabcd};
constexpr Endpoint kHost4{IpAddress::v4(127, 64, 3, 2), 8080};
constexpr Endpoint kClient6{IpAddress::loopback(Family::V6), 1};
constexpr Endpoint kHost6{IpAddress::loopback(Family::V6), 65535};

const std::string kV2 = "\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21"s;
const std::string kLoopback6 = std::string(15, '\0') + '\x01';

TEST(ProxyHeader, OfVersion1IsALineOfText) {
  EXPECT_EQ(proxy_header(ProxyProtocol::V1, kClient4, kHost4),
            "PROXY TCP4 127.0.0.1 127.64.3.2 43981 8080\r\n");
  EXPECT_EQ(proxy_header(ProxyProtocol::V1, kClient6, kHost6), "PROXY TCP6 ::1 ::1 1 65535\r\n");
}

TEST(ProxyHeader, OfVersion2HasAddressesAndPortsInNetworkOrder) {
  EXPECT_EQ(proxy_header(ProxyProtocol::V2, kClient4, kHost4),
            kV2 + "\x11\x00\x0c\x7f\x00\x00\x01\x7f\x40\x03\x02\xab\xcd\x1f\x90"s);
  EXPECT_EQ(proxy_header(ProxyProtocol::V2, kClient6, kHost6),
            kV2 + "\x21\x00\x24"s + kLoopback6 + kLoopback6 + "\x00\x01\xff\xff"s);
}

struct Case {
  ProxyProtocol version;
  Family client;
};

/// The target uses IPv4; the header has the address family of the client all the same.
class ForwardWithProxyHeader : public testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] static std::string header_for(const UniqueFd& client) {
    return proxy_header(GetParam().version, *local_endpoint(client.get()),
                        *peer_endpoint(client.get()));
  }
  [[nodiscard]] static const Endpoint& entry() {
    return kBoth[GetParam().client == Family::V4 ? 0 : 1];
  }
  ForwardRig rig{{.proxy_protocol = GetParam().version, .name = "test"}};
};

TEST_P(ForwardWithProxyHeader, TheTargetReadsItBeforeTheFirstByte) {
  rig.start();
  const UniqueFd client = connect_to_port(entry());
  write_all(client, "hello");
  const UniqueFd inside = rig.accept_inside();
  const std::string header = header_for(client);
  EXPECT_EQ(rig.receive(inside, header.size() + 5).text, header + "hello");
  EXPECT_EQ(rig.port->counters().bytes_in, 5U) << "what the client sent, and no more";
}

TEST_P(ForwardWithProxyHeader, SendsTheHeaderForAClientThatWaitsForAGreeting) {
  rig.start();
  auto [client, inside] = rig.connect_through(entry());
  const std::string header = header_for(client);
  EXPECT_EQ(rig.receive(inside, header.size()).text, header);
  write_all(inside, "welcome");
  EXPECT_EQ(rig.receive(client, 7).text, "welcome");
}

TEST_P(ForwardWithProxyHeader, DropsAClientThatResetWhileItWaited) {
  ASSERT_TRUE(rig.bind() && rig.hold());
  UniqueFd client = connect_to_port(entry());
  ASSERT_TRUE(rig.until([&] { return rig.port->waiting() == 1; }));
  reset(client);
  ASSERT_TRUE(rig.serve());
  ASSERT_TRUE(rig.until([&] { return rig.port->waiting() == 0; }));
  if (wait_for(rig.target.get(), POLLIN, 0)) {
    EXPECT_EQ(rig.receive(accept_from(rig.target), SIZE_MAX).text, "");
  }
}

INSTANTIATE_TEST_SUITE_P(Of, ForwardWithProxyHeader,
                         testing::Values(Case{ProxyProtocol::V1, Family::V4},
                                         Case{ProxyProtocol::V1, Family::V6},
                                         Case{ProxyProtocol::V2, Family::V4},
                                         Case{ProxyProtocol::V2, Family::V6}),
                         [](const auto& which) {
                           const Case& c = which.param;
                           return std::string(c.version == ProxyProtocol::V1 ? "V1" : "V2") +
                                  (c.client == Family::V4 ? "FromIpv4" : "FromIpv6");
                         });

}  // namespace
}  // namespace portfwd
