// Host ports and addresses of forwards, in this run of the daemon and in the next one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/forward_table_fixture.h"
#include "support/streams.h"

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

/// A wildcard of IPv6 keeps IPv4 clients off as well, unless it is for IPv6 alone.
TEST(HostPortHolder, NamesTheProgramWhoseSocketIsInTheWay) {
  const Endpoint v4{IpAddress::loopback(Family::V4), 8080};
  const Endpoint v6{IpAddress::loopback(Family::V6), 8080};
  const Endpoint any4{*IpAddress::parse("0.0.0.0"), 8080};
  const Endpoint any6{*IpAddress::parse("::"), 8080};
  struct Case {
    Endpoint listener;
    int v6only;
    std::vector<Endpoint> blocked, free;
  };
  for (const Case& each :
       {Case{v4, 0, {v4, any4}, {v6, any6}}, Case{any4, 0, {v4, any4}, {v6, any6}},
        Case{v6, 1, {v6, any6}, {v4, any4}}, Case{any6, 1, {v6, any6}, {v4, any4}},
        Case{any6, 0, {v6, any6, v4, any4}, {}}}) {
    const UniqueFd socket = new_socket(each.listener.address.family());
    (void)::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &each.v6only, sizeof each.v6only);
    const SockAddr address = to_sockaddr(each.listener);
    ASSERT_EQ(::bind(socket.get(), address.get(), address.length), 0);
    ASSERT_EQ(::listen(socket.get(), 1), 0);
    const SystemClock clock;
    const ProcDir proc;
    const HostPortHolder holder(proc, clock);
    for (const Endpoint& at : each.blocked) {
      EXPECT_NE(holder.holder_of(Protocol::Tcp, at), "") << at.text();
    }
    for (const Endpoint& at : each.free) {
      EXPECT_EQ(holder.holder_of(Protocol::Tcp, at), "") << at.text();
    }
  }
}

struct WithAddressPerContainer : ForwardTableTest {
  WithAddressPerContainer() {
    settings.host.allocation = Allocation::PerContainer;
    apply_settings();
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
  apply_settings();
  EXPECT_THAT(only().host_addresses, ElementsAre("127.0.0.1", "::1"));
}

}  // namespace
}  // namespace portfwd
