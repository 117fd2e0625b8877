// Forwards that other machines can reach: only if the user permits it, and always with a warning.
#include "support/other_machine.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

class SystemLan : public SystemTest {
 protected:
  OtherMachine other;
};

TEST_F(SystemLan, IsReachableFromOtherMachinesIfPermitted) {
  configure("[host]\nbind = \"0.0.0.0\"\nallow_remote = true\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(read_line(other.connect({OtherMachine::kHere, 8080})), "8080 here\n");
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  const Json forward = forward_of(8080);
  EXPECT_EQ(forward["host_address"], "0.0.0.0");
  EXPECT_EQ(forward["url"], "http://127.0.0.1:8080/");
  EXPECT_NE(ctl({"list"}).out.find("0.0.0.0:8080"), std::string::npos);
  EXPECT_EQ(lines_with("other machines can connect to it"), 1) << daemon_->err();
}

TEST_F(SystemLan, ARuleOpensOnePortAndNoOther) {
  configure("[[rule]]\nports = [8080]\nbind = \"10.77.0.1\"\nallow_remote = true\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_EQ(box.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8080));
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_EQ(read_line(other.connect({OtherMachine::kHere, 8080})), "8080 here\n");
  EXPECT_TRUE(refused({OtherMachine::kHere, 8081}));
  EXPECT_EQ(forward_of(8081)["host_address"], "127.0.0.1");
}

TEST_F(SystemLan, RejectsARemoteBindUnlessConfigured) {
  start();
  const Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  const std::string container = container_of(box.pid())["id"];
  const std::vector<std::string> ask{"forward", container, "8080", "--bind", "10.77.0.1"};
  const Said said = ctl(ask);
  EXPECT_EQ(said.status, 1);
  EXPECT_NE(said.err.find("allow_remote = true"), std::string::npos) << said.err;
  configure("[host]\nallow_remote = true\n");
  ASSERT_EQ(ctl({"reload"}).status, 0);
  ASSERT_EQ(ctl(ask).status, 0);
  ASSERT_EQ(box.open(8080), 0);
  EXPECT_EQ(read_line(other.connect({OtherMachine::kHere, 8080})), "8080 here\n");
}

/// One forward with a container, and one that waits for its container.
TEST_F(SystemLan, WithdrawsARemoteBindThatIsNoLongerConfigured) {
  configure("[host]\nallow_remote = true\n");
  start();
  const Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  ASSERT_EQ(box.open(8080), 0);
  const std::string container = container_of(box.pid())["name"];
  for (const auto& [who, port] : {std::pair(container, "8080"), {"away", "8081"}}) {
    ASSERT_EQ(
        ctl({"forward", who, port, "--bind", "10.77.0.1", "--allow-missing", "--persist"}).status,
        0);
  }
  EXPECT_EQ(read_line(other.connect({OtherMachine::kHere, 8080})), "8080 here\n");
  const auto states = [&] {
    return std::pair(forward_of(8080)["state"], forward_of(8081)["state"]);
  };
  const auto closed = [&] {
    EXPECT_EQ(states(), std::pair(Json("conflict"), Json("conflict")));
    EXPECT_NE(ctl({"list"}).out.find("allow_remote"), std::string::npos);
    EXPECT_NE(ctl({"explain", "away", "8081"}).out.find("set allow_remote = true"),
              std::string::npos);
    return refused({OtherMachine::kHere, 8080}) && refused({OtherMachine::kHere, 8081});
  };
  configure("");
  ASSERT_EQ(ctl({"reload"}).status, 0);
  EXPECT_TRUE(until([&] { return states().first == "conflict"; }));
  EXPECT_TRUE(closed());
  daemon_->signal(SIGTERM);
  EXPECT_EQ(ended(), 0);
  start();
  EXPECT_TRUE(until([&] { return states().first == "conflict"; }));
  EXPECT_TRUE(closed()) << "in the next life of the daemon, too";
  configure("[host]\nallow_remote = true\n");
  ASSERT_EQ(ctl({"reload"}).status, 0);
  EXPECT_TRUE(until([&] { return states() == std::pair(Json("active"), Json("waiting")); }));
  EXPECT_EQ(read_line(other.connect({OtherMachine::kHere, 8080})), "8080 here\n");
}

}  // namespace
}  // namespace portfwd
