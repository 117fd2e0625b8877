// The PROXY protocol: a server receives the address of its client on the host. The server is
// HAProxy, which has defined the protocol.
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

constexpr const char* kHaproxy = "/usr/sbin/haproxy";

struct Spoken {
  const char* version;
  Family client;
};

class SystemProxyProtocol : public SystemTest, public testing::WithParamInterface<Spoken> {
 protected:
  /// Starts HAProxy in a container, on IPv4 alone. It answers each request with the addresses of
  /// the header.
  void start_server() {
    ASSERT_TRUE(std::filesystem::exists(kHaproxy)) << "install haproxy";
    std::ofstream(file("haproxy.cfg")) << R"(
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 20s
frontend told
  bind 127.0.0.1:8080 accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]\n"
)";
    server_ = std::make_unique<Program>(
        loop_, std::vector<std::string>{"unshare", "-Urn", "sh", "-c",
                                        "ip link set lo up; exec " + std::string(kHaproxy) +
                                            " -db -f haproxy.cfg -C " + folder_.path()});
  }
  /// @return the body of the answer
  std::string ask(const UniqueFd& client) {
    write_all(client, "GET / HTTP/1.0\r\n\r\n");
    Received got;
    until([&] {
      read_available(client, got);
      return got.ending != Ending::None;
    });
    const auto body = got.text.rfind("\r\n\r\n");
    return body == std::string::npos ? got.text : got.text.substr(body + 4);
  }

  std::unique_ptr<Program> server_;
};

TEST_P(SystemProxyProtocol, SendsTheClientsAddressToTheServer) {
  configure("[[rule]]\nports = [8080]\nproxy_protocol = \"" + std::string(GetParam().version) +
            "\"\n");
  start();
  start_server();
  ASSERT_TRUE(wait_for_added(8080)) << server_->err();
  const IpAddress loopback = IpAddress::loopback(GetParam().client);
  const UniqueFd client = connect_to_port({loopback, 8080});
  const std::string port = std::to_string(local_endpoint(client.get())->port);
  const std::string address = loopback.text();
  EXPECT_EQ(ask(client), address + " " + port + " " + address + " 8080\n") << server_->err();
}

INSTANTIATE_TEST_SUITE_P(Of, SystemProxyProtocol,
                         testing::Values(Spoken{"v1", Family::V4}, Spoken{"v1", Family::V6},
                                         Spoken{"v2", Family::V4}, Spoken{"v2", Family::V6}),
                         [](const auto& which) {
                           return std::string(which.param.version) +
                                  (which.param.client == Family::V4 ? "FromIpv4" : "FromIpv6");
                         });

}  // namespace
}  // namespace portfwd
