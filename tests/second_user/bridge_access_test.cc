// Access of an ordinary user to a container that root has made. The daemon's side runs as an
// ordinary user; the container is root's and has a network device to the host.
#include <gmock/gmock.h>

#include "support/access_fixture.h"
#include "support/box.h"
#include "support/veth.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::HasSubstr;

constexpr uid_t kDaemon = 61001;
constexpr IpAddress kAny = IpAddress::any(Family::V4);
constexpr IpAddress kLoopback = IpAddress::loopback(Family::V4);

/// Acts as the daemon's user, without capabilities, while this object exists. The test runs as
/// root.
struct AsUser {
  AsUser() { EXPECT_EQ(::seteuid(kDaemon), 0); }
  ~AsUser() { EXPECT_EQ(::seteuid(0), 0); }
};

struct RootsContainerTest : AccessTest, DialHandler {
  void on_dialled(Result<UniqueFd> connected) override { outcome = std::move(connected); }

  Box box = Box::of_roots();
  Veth veth{box.pid(), 1};
  std::optional<Result<UniqueFd>> outcome;
};

TEST_F(RootsContainerTest, ItsNamespaceCannotBeSeen) {
  const AsUser user;
  EXPECT_EQ(container("web", box.pid()).netns, 0U);
}

TEST_F(RootsContainerTest, ItsWildcardListenerIsDialledOverTheBridge) {
  ASSERT_EQ(box.open({kAny, 8080}), 0);
  const AsUser user;
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_EQ(web.kind(), AccessKind::Bridge);
  const std::vector<Address> candidates{{kLoopback, 8080}};
  DialStart start = web.dialer({Protocol::Tcp}).dial(candidates, loop.now() + 10s, *this);
  if (start.connected.valid()) outcome = std::move(start.connected);
  ASSERT_TRUE(turn_until([&] { return outcome.has_value(); }));
  ASSERT_TRUE(*outcome) << outcome->error().text();
  EXPECT_EQ(peer_endpoint((*outcome)->get()), (Endpoint{veth.v4(), 8080}));
}

TEST_F(RootsContainerTest, ItsLoopbackListenerIsSeenWithTheRemedy) {
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  const AsUser user;
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_THAT(web.reason(), HasSubstr("let the server listen on 0.0.0.0"));
}

TEST_F(RootsContainerTest, AnotherUsersRootlessOneIsLeftAlone) {
  const Box rootless;
  const AsUser user;
  Container& theirs = sealed_container("web", rootless.pid());
  const ContainerAccess& web = add(theirs);
  EXPECT_EQ(web.state(), ContainerState::Inaccessible);
  EXPECT_EQ(web.reason(), theirs.inaccessible);
}

TEST_F(RootsContainerTest, TwoOfOneNamespaceAreKnownToShareIt) {
  const Box beside = Box::beside(box);
  const AsUser user;
  ContainerAccess& one = add(sealed_container("one", box.pid()));
  ContainerAccess& two = add(sealed_container("two", beside.pid()));
  EXPECT_EQ(&one.dialer({Protocol::Tcp}), &two.dialer({Protocol::Tcp}));
}

}  // namespace
}  // namespace portfwd
