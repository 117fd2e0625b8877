// UDP from end to end: the daemon detects bound sockets inside, forwards them, and ends the
// forwards.
#include "support/datagram_sockets.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

class SystemUdp : public SystemTest {
 protected:
  /// Sends until an answer arrives, as a UDP client must. @return the answer; "" if refused
  std::string echo(const UniqueFd& client, const std::string& text) {
    std::string answer;
    until([&] {
      if (send_one(client, text) == ECONNREFUSED) return true;
      const OneDatagram got = take_one(client);
      answer = got.text;
      return got.error == 0 || got.error == ECONNREFUSED;
    });
    return answer;
  }
};

TEST_F(SystemUdp, ForwardsABoundSocketIfConfigured) {
  configure("[detect]\nudp = true\n");
  start();
  const Box box;
  ASSERT_EQ(box.open_datagrams({kV4, 8053}), 0);
  ASSERT_TRUE(wait_for_added(8053));
  for (const IpAddress& address : {kV4, kV6}) {
    EXPECT_EQ(echo(datagrams_to({address, 8053}), "hello"), "hello");
  }
  const Json properties = told("PortAdded", 8053)[0].body[1];
  EXPECT_EQ(properties["Protocol"], "udp");
  EXPECT_EQ(properties["Url"], "");
  EXPECT_EQ(properties["Process"], "server");
  const Json forward = forward_of(8053);
  EXPECT_EQ(forward["protocol"], "udp");
  EXPECT_EQ(forward["target"], "8053/udp");
  EXPECT_EQ(forward["connections"]["total"], 2);
  EXPECT_EQ(container_of(box.pid())["listeners"][0]["protocol"], "udp");
  EXPECT_EQ(lines_with("port 8053/udp is at 127.0.0.1:8053"), 1);
  EXPECT_NE(ctl({"explain", "8053"}).err.find("8053/udp"), std::string::npos);
  const std::string name = container_of(box.pid())["name"];
  EXPECT_NE(ctl({"explain", name, "8053"}).out.find("8053/udp"), std::string::npos);
  EXPECT_EQ(json({"explain", "8053/udp"})["protocol"], "udp");
}

TEST_F(SystemUdp, IsNotDetectedByDefault) {
  start();
  const Box box;
  ASSERT_EQ(box.open_datagrams({kV4, 8053}), 0);
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(forward_of(8053), nullptr);
  EXPECT_NE(ctl({"explain", std::to_string(box.pid()), "8053/udp"}).err, "")
      << "it has no such name";
  const std::string name = container_of(box.pid())["name"];
  EXPECT_NE(ctl({"explain", name, "8053/udp"}).out.find("[detect] udp = false"), std::string::npos);
}

TEST_F(SystemUdp, TcpAndUdpOfOneNumberAreTwoForwardsAtOneHostPort) {
  configure("[[rule]]\nprotocol = \"udp\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_EQ(box.open_datagrams({IpAddress::any(Family::V6), 8080}), 0);
  ASSERT_TRUE(wait_for_added(8080, 2));
  EXPECT_EQ(greeting({kV4, 8080}), "8080 here\n");
  EXPECT_EQ(echo(datagrams_to({kV4, 8080}), "both"), "both");
}

TEST_F(SystemUdp, KeepsAManualForwardWaitingForItsServer) {
  configure("[host]\nhold = \"0s\"\n");
  start();
  const Box box;
  ASSERT_TRUE(wait_for_container(box.pid()));
  const std::string name = container_of(box.pid())["name"];
  ASSERT_EQ(ctl({"forward", name, "40000/udp:8053"}).status, 0) << "named, though ephemeral";
  const UniqueFd client = datagrams_to({kV4, 8053});
  EXPECT_EQ(echo(client, "anybody?"), "") << "refused: nothing listens";
  ASSERT_EQ(box.open_datagrams({kV4, 40000}), 0);
  ASSERT_TRUE(until([&] { return forward_of(40000)["state"] == "active"; }));
  while (take_one(client).error == ECONNREFUSED) {
  }
  EXPECT_EQ(echo(client, "now"), "now");
  EXPECT_EQ(ctl({"unforward", name + ":40000/udp"}).status, 0);
}

TEST_F(SystemUdp, WhenTheServerGoesItsForwardLingersAndGoes) {
  configure("[detect]\nudp = true\n[host]\nlinger = \"300ms\"\n");
  start();
  const Box box;
  ASSERT_EQ(box.open_datagrams({kV4, 8053}), 0);
  ASSERT_TRUE(wait_for_added(8053));
  const UniqueFd client = datagrams_to({kV4, 8053});
  EXPECT_EQ(echo(client, "hello"), "hello");
  box.close_datagrams();
  ASSERT_TRUE(wait_for_removed(8053));
  EXPECT_EQ(told("PortRemoved", 8053)[0].body[1]["Reason"], "listener-closed");
  EXPECT_EQ(echo(client, "still there?"), "") << "the kernel refuses it now";
}

TEST_F(SystemUdp, AHostPortThatIsTakenIsReplacedAndItsHolderNamed) {
  configure("[detect]\nudp = true\n");
  const UniqueFd taken = bind_datagrams({kV6, 8053});
  start();
  const Box box;
  ASSERT_EQ(box.open_datagrams({kV4, 8053}), 0);
  ASSERT_TRUE(wait_for_added(8053));
  const Json forward = forward_of(8053);
  EXPECT_EQ(forward["host_port"], 20000);
  EXPECT_NE(forward["reason"].get<std::string>().find("held by system_tests"), std::string::npos)
      << forward["reason"];
  EXPECT_EQ(echo(datagrams_to({kV6, 20000}), "hello"), "hello");
}

}  // namespace
}  // namespace portfwd
