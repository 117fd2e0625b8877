// Host ports and addresses of forwards, in this run of the daemon and in the next one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/forward_table_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;

TEST_F(ForwardTableTest, TheNextTableKnowsTheHostPortsOfThisOne) {
  auto taken = listen_on({IpAddress::loopback(Family::V4), 8080});
  show(container("web"), {8080});
  const State state = table->state();
  EXPECT_THAT(state.ports, ElementsAre(StickyPort{"web", {Protocol::Tcp, 8080}, 20000}));
  EXPECT_EQ(told.state_changes, 1);
  table->stop();
  taken.reset();
  make_table(state);
  show(container("web"), {8080});
  EXPECT_EQ(only().host_port, 20000);
  EXPECT_EQ(told.state_changes, 1) << "nothing new to be written";
}

struct WithAddressPerContainer : ForwardTableTest {
  WithAddressPerContainer() {
    settings.host.allocation = Allocation::PerContainer;
    table->apply_settings();
  }
  [[nodiscard]] std::string home_of(const std::string& name) const {
    for (const auto& [container, address] : table->state().addresses) {
      if (container == name) return address.text();
    }
    return "";
  }
};

TEST_F(WithAddressPerContainer, EachKeepsItsPortNumbersAndIsReachedThere) {
  const UniqueFd server = listen_on({kInside, 8080});
  show(container("web"), {8080});
  show(container("shop"), {8080});
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1", "+shop:8080@8080 0/1"));
  for (const ForwardInfo& f : table->forwards().infos()) {
    EXPECT_THAT(f.host_addresses, ElementsAre(home_of(f.container_name)));
    EXPECT_EQ(f.url, "http://" + home_of(f.container_name) + ":8080/");
    EXPECT_EQ(f.reason, "");
    UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const SockAddr address = to_sockaddr({*IpAddress::parse(f.host_addresses[0]), 8080});
    EXPECT_EQ(::connect(client.get(), address.get(), address.length), -1);
    EXPECT_EQ(errno, EINPROGRESS);
    turn_until([&] { return table->forwards().find_id(f.id)->counters().total == 1; });
  }
  EXPECT_NE(home_of("web"), home_of("shop"));
  EXPECT_EQ(told.state_changes, 2);
}

TEST_F(WithAddressPerContainer, ItIsTheSameInTheNextLife) {
  show(container("web"), {8080});
  const State state = table->state();
  const std::string home = home_of("web");
  table->stop();
  make_table(state);
  show(container("web"), {9090});
  EXPECT_THAT(only().host_addresses, ElementsAre(home));
}

TEST_F(WithAddressPerContainer, ContainersOfOneNameShareItAndTheSecondGetsAnotherPort) {
  show(container("web"), {8080});
  show(container("web"), {8080});
  EXPECT_THAT(told.take(), ElementsAre("+web:8080@8080 0/1", "+web:8080@20000 0/1"));
}

TEST_F(WithAddressPerContainer, AContainerThatGetsAnotherNameMovesThere) {
  TestAccess& reach = container("a1b2c3");
  show(reach, {8080});
  told.take();
  reach.rename("web");
  changed(reach);
  EXPECT_THAT(told.take(), ElementsAre("-web:8080 replaced", "+web:8080@8080 0/1"));
  EXPECT_THAT(only().host_addresses, ElementsAre(home_of("web")));
}

TEST_F(WithAddressPerContainer, BackToOnePortForAllTheyMove) {
  show(container("web"), {8080});
  settings.host.allocation = Allocation::SamePort;
  table->apply_settings();
  EXPECT_THAT(only().host_addresses, ElementsAre("127.0.0.1", "::1"));
}

}  // namespace
}  // namespace portfwd
