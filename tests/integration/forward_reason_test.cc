// Reasons of forwards that do not work.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/few_descriptors.h"
#include "support/forward_table_fixture.h"
#include "support/streams.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(ForwardTableTest, AConflictForWantOfDescriptorsSaysSo) {
  TestAccess& web = container("web");
  {
    const FewDescriptors few(0);
    show(web, {8080});
    EXPECT_EQ(only().state, ForwardState::Conflict);
    EXPECT_EQ(only().error, EMFILE);
    EXPECT_THAT(remedies_of(only()), ElementsAre(Remedy{RemedyCode::RaiseDescriptorLimit}));
  }
  turn_until([&] { return only().state == ForwardState::Active; });
  EXPECT_EQ(only().error, 0);
}

TEST_F(ForwardTableTest, NamesTheBindAddressThatThisMachineLacks) {
  settings.host.bind.only = IpAddress::v4(192, 0, 2, 99);
  settings.host.allow_remote = true;
  apply_settings();
  show(container("web"), {8080});
  EXPECT_EQ(only().state, ForwardState::Conflict);
  EXPECT_EQ(only().error, EADDRNOTAVAIL);
  EXPECT_THAT(only().reason, AllOf(HasSubstr("192.0.2.99"), HasSubstr("address of this machine")));
  EXPECT_THAT(remedies_of(only()), ElementsAre(Remedy{RemedyCode::ChooseBindAddress}));
}

TEST_F(ForwardTableTest, SaysOfAWaitingForwardWhyItWaitsAndWhyItHasAnotherPort) {
  TestAccess& web = container("web");
  const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 8081});
  ASSERT_TRUE(ask(&web, 8081));
  EXPECT_EQ(only().state, ForwardState::Waiting);
  EXPECT_THAT(only().reason, AllOf(HasSubstr("nothing listens"),
                                   HasSubstr("; port 8081 is held by python3 (pid 42)")));
}

/// Each attempt fails in the next turn.
class FailingDialer final : public Dialer {
 public:
  explicit FailingDialer(EventLoop& loop) : loop_(loop) {}
  [[nodiscard]] DialStart dial(std::span<const Address>, TimePoint, DialHandler& handler) override {
    return {UniqueFd(), std::make_unique<Attempt>(loop_, handler, Error{code, "connect"})};
  }
  int code = 0;

 private:
  struct Attempt final : Dial {
    Attempt(EventLoop& loop, DialHandler& handler, const Error& error)
        : timer(loop, [&handler, error] { handler.on_dialled(std::unexpected(error)); }) {
      timer.arm_now();
    }
    Timer timer;
  };
  EventLoop& loop_;
};

TEST_F(ForwardTableTest, NotifiesOfAnotherReasonWhyTheTargetCannotBeDialled) {
  FailingDialer dialer(relay.loop);
  TestAccess& web = container("web");
  web.other_dialer = &dialer;
  show(web, {8080});
  told.changes.clear();
  for (const int code : {EHOSTUNREACH, EHOSTUNREACH, ENETUNREACH}) {
    dialer.code = code;
    const std::uint64_t failed = only().counters.failed;
    const UniqueFd client = connect_to_port({IpAddress::loopback(Family::V4), 8080});
    turn_until([&] { return only().counters.failed == failed + 1; });
  }
  EXPECT_THAT(told.changes, ElementsAre("8080 waiting", "8080 waiting"));
  EXPECT_EQ(only().error, ENETUNREACH);
}

TEST_F(ForwardTableTest, ATargetThatLeadsBackToItsHostPortIsShownAsWaiting) {
  show(container("web"), {8080});
  const UniqueFd inside = listen_at({kInside, 8080});
  std::vector<UniqueFd> loop;
  loop.push_back(connect_to_port({IpAddress::loopback(Family::V4), 8080}));
  told.changes.clear();
  turn_until([&] {
    while (wait_for(inside.get(), POLLIN, 0)) {
      loop.push_back(accept_from(inside));
      loop.push_back(connect_to_port({IpAddress::loopback(Family::V4), 8080}));
    }
    return only().state == ForwardState::Waiting;
  });
  EXPECT_THAT(only().reason, HasSubstr("leads back"));
  EXPECT_THAT(told.changes, ElementsAre("8080 waiting"));
}

}  // namespace
}  // namespace portfwd
