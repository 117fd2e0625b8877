// Ports inside a container that the daemon uses: made by the real broker, ignored by the watch.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/socket.h>

#include "support/access_fixture.h"
#include "support/test_netns.h"
#include "support/veth.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr Endpoint kInside4{IpAddress::loopback(Family::V4), 5432};
constexpr Endpoint kInside6{IpAddress::loopback(Family::V6), 5432};

struct InsidePortTest : AccessTest {
  OnInsidePort on_inside_port() {
    return [this](InsideSockets sockets) {
      EXPECT_FALSE(outcome) << "called once";
      outcome = std::move(sockets);
    };
  }
  void ask(Port number) {
    auto taken = web.listen_inside({Target(Protocol::Tcp, number), {}}, on_inside_port());
    ASSERT_TRUE(taken) << taken.error().text;
    port = std::move(*taken);
  }
  /// Requests the port and waits for the outcome.
  void take() {
    ask(kInside4.port);
    ASSERT_TRUE(turn_until([&] { return outcome.has_value(); }));
  }
  [[nodiscard]] int error() const { return *outcome ? 0 : outcome->error().error.code; }

  TestNetns ns;
  ContainerAccess& web = add(container("web", ns.pid()));
  std::optional<InsideSockets> outcome;
  std::unique_ptr<InsidePort> port;
};

TEST_F(InsidePortTest, IsBoundOnBothLoopbacksAndReachedFromInside) {
  take();
  ASSERT_EQ(error(), 0) << outcome->error().text;
  ASSERT_EQ((*outcome)->size(), 2U);
  EXPECT_EQ((**outcome)[0].address, Address(kInside4));
  EXPECT_EQ((**outcome)[1].address, Address(kInside6));
  for (const BoundSocket& bound : **outcome) {
    EXPECT_EQ(::listen(bound.socket.get(), 8), 0);
    connect_to(ns.socket(address_family(bound.address.ip().address.family()), SOCK_STREAM),
               bound.address.ip());
    const UniqueFd accepted(::accept4(bound.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(accepted.valid());
  }
}

/// The container's own listener is added later and reported; those of the daemon never are.
TEST_F(InsidePortTest, IsNotReportedAsAListener) {
  take();
  for (const BoundSocket& bound : **outcome) EXPECT_EQ(::listen(bound.socket.get(), 8), 0);
  const UniqueFd theirs = ns.listen({IpAddress::loopback(Family::V4), 8080});
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_THAT(told, ElementsAre("web: 8080"));
}

TEST_F(InsidePortTest, ReportsThatThePortIsTaken) {
  const UniqueFd theirs = ns.listen({IpAddress::any(Family::V4), kInside4.port});
  take();
  EXPECT_EQ(error(), EADDRINUSE);
}

TEST_F(InsidePortTest, FailsInBothFamiliesWhenOneIsTaken) {
  const UniqueFd theirs = ns.listen(kInside6);
  take();
  EXPECT_EQ(error(), EADDRINUSE);
  EXPECT_TRUE(ns.listen(kInside4).valid());
}

TEST_F(InsidePortTest, BindsIpv4OnlyWhenLoHasNoIpv6) {
  run(fmt::format("nsenter --net=/proc/{}/ns/net ip address del ::1/128 dev lo", ns.pid()));
  take();
  ASSERT_EQ(error(), 0) << outcome->error().text;
  ASSERT_EQ((*outcome)->size(), 1U);
  EXPECT_EQ((*outcome)->front().address, Address(kInside4));
}

TEST_F(InsidePortTest, MayBePrivileged) {
  ask(80);
  ASSERT_TRUE(turn_until([&] { return outcome.has_value(); }));
  EXPECT_EQ(error(), 0);
}

TEST_F(InsidePortTest, ReleasesThePortWhenCancelled) {
  ask(kInside4.port);
  port.reset();
  take();  // replies come in order, so the first one has been discarded
  EXPECT_EQ(error(), 0) << outcome->error().text;
}

TEST_F(InsidePortTest, IsRejectedForAnInaccessibleContainer) {
  Container& closed = container("closed", ns.pid());
  closed.netns = 0;
  closed.inaccessible = "no way";
  const auto none =
      add(closed).listen_inside({Target(Protocol::Tcp, kInside4.port), {}}, on_inside_port());
  ASSERT_FALSE(none);
  EXPECT_FALSE(none.error().text.empty());
}

}  // namespace
}  // namespace portfwd
