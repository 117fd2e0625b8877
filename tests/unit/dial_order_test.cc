// Order in which the addresses of a port are dialled.
#include <gmock/gmock.h>

#include "relay/dialer.h"

namespace portfwd {
namespace {

using testing::ElementsAre;

Endpoint at(std::string_view address) {
  return {*IpAddress::parse(address), 80};
}
ListenAddress listener(std::string_view address, bool v6only = false) {
  return {at(address), v6only};
}

TEST(DialOrderTest, TheClientsFamilyComesFirst) {
  const std::vector both{listener("127.0.0.1"), listener("::1")};
  EXPECT_THAT(dial_order(Family::V4, both), ElementsAre(at("127.0.0.1"), at("::1")));
  EXPECT_THAT(dial_order(Family::V6, both), ElementsAre(at("::1"), at("127.0.0.1")));
}

TEST(DialOrderTest, LoopbackThenWildcardThenSpecific) {
  const std::vector all{listener("10.0.0.5"), listener("127.0.0.53"), listener("0.0.0.0"),
                        listener("127.0.0.1")};
  EXPECT_THAT(dial_order(Family::V4, all),
              ElementsAre(at("127.0.0.1"), at("127.0.0.53"), at("10.0.0.5")))
      << "the wildcard is dialled by the loopback address, once";
}

TEST(DialOrderTest, AWildcardIsDialledByItsLoopbackAddress) {
  const std::vector v4{listener("0.0.0.0")};
  EXPECT_THAT(dial_order(Family::V4, v4), ElementsAre(at("127.0.0.1")));
  EXPECT_THAT(dial_order(Family::V6, v4), ElementsAre(at("127.0.0.1")));
}

TEST(DialOrderTest, ADualStackWildcardTakesBothFamilies) {
  const std::vector dual{listener("::")};
  EXPECT_THAT(dial_order(Family::V4, dual), ElementsAre(at("127.0.0.1"), at("::1")));
  EXPECT_THAT(dial_order(Family::V6, dual), ElementsAre(at("::1"), at("127.0.0.1")));
}

TEST(DialOrderTest, AV6OnlyWildcardIsNeverDialledByIpv4) {
  const std::vector only{listener("::", true)};
  EXPECT_THAT(dial_order(Family::V4, only), ElementsAre(at("::1")));
}

TEST(DialOrderTest, AWildcardOfTheClientsFamilyBeatsLoopbackOfTheOther) {
  const std::vector mixed{listener("::1"), listener("0.0.0.0")};
  EXPECT_THAT(dial_order(Family::V4, mixed), ElementsAre(at("127.0.0.1"), at("::1")));
}

TEST(DialOrderTest, AWildcardThatIsBoundToAnInterfaceIsDialledThere) {
  const auto on_2 = [](std::string_view address) {
    Endpoint endpoint = at(address);
    endpoint.interface = 2;
    return endpoint;
  };
  const std::vector dual{ListenAddress{on_2("::"), false}};
  EXPECT_THAT(dial_order(Family::V4, dual), ElementsAre(on_2("0.0.0.0"), on_2("::")));
  const std::vector link_local{ListenAddress{on_2("fe80::1"), false}};
  EXPECT_THAT(dial_order(Family::V4, link_local), ElementsAre(on_2("fe80::1")));
}

}  // namespace
}  // namespace portfwd
