// Paths of Unix sockets on the host, and the options of a request for one.
#include "forward/host_paths.h"

#include <gtest/gtest.h>

#include "forward/model.h"

namespace portfwd {
namespace {

std::string path_for(const std::string& container, const Target& target, unsigned number = 1) {
  return automatic_path("/run/user/1000/portfwd", container, target, number);
}

TEST(AutomaticPath, HasTheContainerAndTheLastPartOfThePath) {
  EXPECT_EQ(path_for("shop", UnixPath{"/run/app.sock"}), "/run/user/1000/portfwd/shop/app.sock");
  EXPECT_EQ(path_for("shop", AbstractName{"app"}), "/run/user/1000/portfwd/shop/app");
}

TEST(AutomaticPath, NumbersFurtherSocketsOfOneName) {
  EXPECT_EQ(path_for("shop", UnixPath{"/a/app.sock"}, 2), "/run/user/1000/portfwd/shop/app-2.sock");
  EXPECT_EQ(path_for("shop", UnixPath{"/a/app"}, 3), "/run/user/1000/portfwd/shop/app-3");
}

TEST(AutomaticPath, LeadsNowhereElse) {
  for (const char* odd : {"..", ".", "-rf", "a/b", "a\nb", "a b", "\xff", "../../etc"}) {
    for (const std::string& path :
         {path_for(odd, UnixPath{"/run/app.sock"}), path_for("shop", AbstractName{odd})}) {
      EXPECT_EQ(std::ranges::count(path, '/'), 6) << path;
      EXPECT_EQ(path.find("/."), std::string::npos) << path;
      EXPECT_EQ(path.find("/-"), std::string::npos) << path;
      EXPECT_TRUE(std::ranges::all_of(path, [](char c) { return c > ' ' && c <= '~'; })) << path;
    }
  }
  EXPECT_EQ(path_for("shop", UnixPath{"/run/"}), "/run/user/1000/portfwd/shop/_");
}

TEST(ReadHost, AcceptsAPortOrAnAbsolutePath) {
  ForwardSpec spec;
  EXPECT_TRUE(read_host("8080", spec));
  EXPECT_EQ(spec.host_port, Port{8080});
  EXPECT_TRUE(read_host("unix:/run/app.sock", spec));
  EXPECT_EQ(spec.host_path, "/run/app.sock");
  for (const char* bad : {"", "0", "65536", "unix:", "unix:app.sock", "unix:@app", "/run/app.sock",
                          "tcp:80", "localhost:80"}) {
    EXPECT_FALSE(read_host(bad, spec)) << bad;
  }
  EXPECT_FALSE(read_host("unix:/" + std::string(kLongestUnixName, 'x'), spec));
}

TEST(ReadOwner, AcceptsTwoNumbers) {
  SocketOptions options;
  EXPECT_TRUE(read_owner("1000:100", options));
  EXPECT_EQ(options.owner, (FileOwner{1000, 100}));
  for (const char* bad :
       {"", ":", "1000", "1000:", ":100", "root:root", "-1:0", "4294967295:0", "1:2:3", "1 :2"}) {
    EXPECT_FALSE(read_owner(bad, options)) << bad;
  }
}

/// Whether a request for the target with these changes is accepted.
bool accepts(const Target& target, const std::function<void(ForwardSpec&)>& change) {
  ForwardRequest request{.spec = {.container = "shop", .target = target}};
  change(request.spec);
  return check(request, false).has_value();
}

TEST(CheckOfASocketRequest, RejectsWhatDoesNotFitTogether) {
  const Target socket = UnixPath{"/run/app.sock"};
  const Target port(Protocol::Tcp, 8080);
  EXPECT_TRUE(accepts(socket, [](ForwardSpec&) {}));
  EXPECT_TRUE(accepts(socket, [](ForwardSpec& s) { s.host_path = "/tmp/app.sock"; }));
  EXPECT_TRUE(accepts(socket, [](ForwardSpec& s) { s.host_port = 8080; }));
  EXPECT_FALSE(accepts(port, [](ForwardSpec& s) { s.host_path = "/tmp/app.sock"; }));
  EXPECT_FALSE(accepts(port, [](ForwardSpec& s) { s.socket.peer_uid = 1000; }));
  EXPECT_FALSE(accepts(socket, [](ForwardSpec& s) { s.container_address = "127.0.0.1"; }));
  EXPECT_FALSE(accepts(socket, [](ForwardSpec& s) {
    s.host_path = "/tmp/app.sock";
    s.host_port = 8080;
  }));
  EXPECT_FALSE(accepts(socket, [](ForwardSpec& s) { s.direction = Direction::Reverse; }));
  EXPECT_TRUE(accepts(socket, [](ForwardSpec& s) {
    s.direction = Direction::Reverse;
    s.host_path = "/tmp/app.sock";
  }));
}

}  // namespace
}  // namespace portfwd
