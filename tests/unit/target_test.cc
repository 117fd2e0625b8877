// Parsing of targets of forwards.
#include "net/target.h"

#include <gtest/gtest.h>

namespace portfwd {
namespace {

TEST(Target, ParsesAPortWithAnOptionalProtocol) {
  EXPECT_EQ(parse_target("8080"), Target(Protocol::Tcp, 8080));
  EXPECT_EQ(parse_target("8080/tcp"), Target(Protocol::Tcp, 8080));
  EXPECT_EQ(parse_target("53/udp"), Target(Protocol::Udp, 53));
}

TEST(Target, ParsesUnixSocketsAndVsockPorts) {
  EXPECT_EQ(parse_target("unix:/run/app.sock"), Target(UnixPath{"/run/app.sock"}));
  EXPECT_EQ(parse_target("unix:@app"), Target(AbstractName{"app"}));
  EXPECT_EQ(parse_target("vsock:1024"), Target(VsockTarget{1024}));
}

TEST(Target, RejectsEverythingElse) {
  const std::string too_long = "unix:/" + std::string(kLongestUnixName, 'x');
  for (const std::string text : {"",
                                 "0",
                                 "65536",
                                 "abc",
                                 "-1",
                                 "+1",
                                 " 80",
                                 "80 ",
                                 "80/",
                                 "/tcp",
                                 "80/sctp",
                                 "8 0",
                                 "unix:",
                                 "unix:@",
                                 "unix:relative",
                                 "unix/path",
                                 "vsock:",
                                 "vsock:-1",
                                 "vsock:4294967296",
                                 "vsock:1 "}) {
    EXPECT_FALSE(parse_target(text)) << text;
  }
  EXPECT_FALSE(parse_target(too_long));
  EXPECT_FALSE(parse_target(std::string_view("unix:/a\0b", 9)));
}

TEST(Target, PrintsWhatItParses) {
  for (const char* text : {"8080", "53/udp", "unix:/run/app.sock", "unix:@app", "vsock:1024"}) {
    const auto target = parse_target(text);
    ASSERT_TRUE(target) << text;
    EXPECT_EQ(target->text(), text);
  }
}

TEST(Target, HasAPortNumberOnlyIfItIsAPort) {
  EXPECT_EQ(Target(Protocol::Udp, 53).port_number(), 53);
  EXPECT_EQ(Target(Protocol::Udp, 53).protocol(), Protocol::Udp);
  const Target path = UnixPath{"/run/app.sock"};
  EXPECT_EQ(path.port(), nullptr);
  EXPECT_EQ(path.port_number(), 0);
}

TEST(Target, HasTheProtocolOfItsListenersAndThatOfAHostPort) {
  struct Row {
    Target target;
    Protocol listeners;
    Protocol host_port;
  };
  for (const auto& [target, listeners, host_port] :
       {Row{Target(Protocol::Tcp, 80), Protocol::Tcp, Protocol::Tcp},
        Row{Target(Protocol::Udp, 53), Protocol::Udp, Protocol::Udp},
        Row{UnixPath{"/run/app.sock"}, Protocol::Unix, Protocol::Tcp},
        Row{AbstractName{"app"}, Protocol::Unix, Protocol::Tcp},
        Row{VsockTarget{1024}, Protocol::Tcp, Protocol::Tcp}}) {
    EXPECT_EQ(target.protocol(), listeners) << target.text();
    EXPECT_EQ(target.host_port_protocol(), host_port) << target.text();
  }
}

TEST(Target, IsTheNameOfTheListenersAtItsAddress) {
  const IpAddress ip = IpAddress::loopback(Family::V6);
  for (const Target& target : {Target(Protocol::Tcp, 80), Target(Protocol::Udp, 53),
                               Target(UnixPath{"/run/app.sock"}), Target(AbstractName{"app"})}) {
    EXPECT_EQ(target_of(target.protocol(), address_of(target, ip)), target) << target.text();
  }
  EXPECT_EQ(address_of(Target(Protocol::Tcp, 80), ip), (Endpoint{ip, 80}));
  EXPECT_EQ(target_of(Protocol::Unix, UnixPath{"relative"}), Target(UnixPath{"relative"}));
}

}  // namespace
}  // namespace portfwd
