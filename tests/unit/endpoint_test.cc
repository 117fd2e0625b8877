// Conversion of endpoints to and from text and the kernel's structures.
#include <gtest/gtest.h>

#include "net/address.h"

namespace portfwd {
namespace {

TEST(Endpoint, PrintsWhatItParses) {
  for (const char* text : {"127.0.0.1", "0.0.0.0", "::1", "::", "fe80::1", "255.255.255.255"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->text(), text);
  }
}

TEST(Endpoint, RefusesWhatIsNoNumericAddress) {
  for (const char* text :
       {"", "localhost", "127.0.0", "127.0.0.1 ", "1.2.3.4.5", "[", "[]", ":::"}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
}

TEST(Endpoint, AMappedAddressIsIpv4) {
  EXPECT_EQ(IpAddress::parse("::ffff:127.0.0.1"), IpAddress::loopback(Family::V4));
}

TEST(Endpoint, SurvivesTheTripThroughASockaddr) {
  for (const Endpoint& e : {Endpoint{IpAddress::loopback(Family::V4), 80},
                            Endpoint{IpAddress::loopback(Family::V6), 65535}}) {
    EXPECT_EQ(from_sockaddr(to_sockaddr(e)), e);
  }
  SockAddr cut = to_sockaddr({IpAddress::loopback(Family::V6), 80});
  cut.length = 8;
  EXPECT_FALSE(from_sockaddr(cut));
}

TEST(Endpoint, LoopbackIsAllOf127AndOneIpv6Address) {
  EXPECT_TRUE(IpAddress::v4(127, 0, 0, 53).is_loopback());
  EXPECT_FALSE(IpAddress::v4(128, 0, 0, 1).is_loopback());
  EXPECT_TRUE(IpAddress::loopback(Family::V6).is_loopback());
  EXPECT_FALSE(IpAddress::any(Family::V6).is_loopback());
}

}  // namespace
}  // namespace portfwd
