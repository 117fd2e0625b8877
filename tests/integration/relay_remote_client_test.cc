// A forward that listens for other machines: which of their clients, and of this machine's, are
// authorized.
#include <gtest/gtest.h>

#include "support/addresses.h"
#include "support/forward_rig.h"
#include "support/other_machine.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct ForwardForOtherMachines : testing::Test {
  void start(Admission admission) {
    rig.port->configure({.admission = std::move(admission), .name = "test"});
    const Endpoint everywhere{IpAddress::any(Family::V4), kHostPort};
    ASSERT_TRUE(rig.port->bind(addresses(everywhere)));
    ASSERT_TRUE(rig.serve());
  }
  OtherMachine other;
  ForwardRig rig;
};

TEST_F(ForwardForOtherMachines, AllowsRemoteClientsIfConfigured) {
  start({.allow_remote = true});
  const UniqueFd client = other.connect({OtherMachine::kHere, kHostPort});
  const UniqueFd inside = rig.accept_inside();
  write_all(client, "hello");
  EXPECT_EQ(rig.receive(inside, 5).text, "hello");
}

TEST_F(ForwardForOtherMachines, ResetsRemoteClientsWithoutAllowRemote) {
  start({.restrict_to_user = false});
  testing::internal::CaptureStderr();
  const UniqueFd client = other.connect({OtherMachine::kHere, kHostPort});
  EXPECT_EQ(rig.ending_of(client), Ending::Reset);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("of another machine (10.77.0.2)"), std::string::npos) << said;
  EXPECT_NE(said.find("allow_remote"), std::string::npos) << said;
  EXPECT_EQ(rig.identity.refused().remote, 1U);
}

/// The client connects to the address that other machines use, and is identified all the same.
TEST_F(ForwardForOtherMachines, ExaminesClientsOfThisMachine) {
  start({.allow_remote = true});
  UniqueFd gone = connect_to_port({OtherMachine::kHere, kHostPort});
  write_all(gone, "fire and forget");
  gone.reset();
  ASSERT_TRUE(rig.until([&] { return rig.port->counters().refused == 1; }));
  EXPECT_EQ(rig.identity.refused().unidentified, 1U);
  auto [client, inside] = rig.connect_through({OtherMachine::kHere, kHostPort});
  write_all(client, "mine");
  EXPECT_EQ(rig.receive(inside, 4).text, "mine");
}

}  // namespace
}  // namespace portfwd
