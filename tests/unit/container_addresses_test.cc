// Allocation of a loopback address to each container.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "state/container_memory.h"

namespace portfwd {
namespace {

using testing::ElementsAre;

TEST(ContainerAddresses, AreTheSameForTheSameNameEverywhere) {
  ContainerAddresses here;
  ContainerAddresses elsewhere;
  EXPECT_TRUE(here.address_of("web").is_new);
  EXPECT_FALSE(here.address_of("web").is_new);
  EXPECT_EQ(here.address_of("web").address, elsewhere.address_of("web").address);
  EXPECT_EQ(here.address_of("web").address.text(), "127.203.244.218")
      << "the result must not change between versions";
}

TEST(ContainerAddresses, AreUnique) {
  ContainerAddresses addresses;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < ContainerAddresses::kKept; ++i) {
    const IpAddress address = addresses.address_of(fmt::format("container-{}", i)).address;
    const std::uint8_t* bytes = address.data();
    EXPECT_EQ(bytes[0], 127);
    EXPECT_TRUE(bytes[1] != 0 && bytes[1] != 255 && bytes[3] != 0 && bytes[3] != 255);
    EXPECT_TRUE(seen.insert(address.text()).second) << address.text();
  }
}

TEST(ContainerAddresses, ResolveACollisionByTheNextAddress) {
  const IpAddress first_choice = ContainerAddresses().address_of("web").address;
  ContainerAddresses addresses;
  addresses.restore({{"shop", first_choice}});
  const IpAddress second_choice = addresses.address_of("web").address;
  EXPECT_NE(second_choice, first_choice);
  ContainerAddresses next_life;
  next_life.restore(addresses.all());
  EXPECT_EQ(next_life.address_of("web").address, second_choice);
  EXPECT_EQ(next_life.address_of("shop").address, first_choice);
}

TEST(ContainerAddresses, AreNotRestoredFromAnInvalidFile) {
  ContainerAddresses addresses;
  addresses.restore({{"a", IpAddress::v4(127, 0, 0, 1)},
                     {"b", IpAddress::v4(127, 255, 0, 1)},
                     {"c", IpAddress::v4(192, 168, 0, 1)},
                     {"d", IpAddress::loopback(Family::V6)},
                     {"e", IpAddress::v4(127, 1, 1, 0)},
                     {"f", IpAddress::v4(127, 1, 1, 1)},
                     {"g", IpAddress::v4(127, 1, 1, 1)}});
  EXPECT_THAT(addresses.all(), ElementsAre(ContainerAddress{"f", IpAddress::v4(127, 1, 1, 1)}));
}

}  // namespace
}  // namespace portfwd
