// Conversion of IP addresses to and from text and the kernel's structures.
#include "net/address.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace portfwd {
namespace {

Address bound_name(int fd) {
  SockAddr address;
  address.length = sizeof address.storage;
  EXPECT_EQ(::getsockname(fd, address.get(), &address.length), 0);
  return address_from(address).value_or(Address());
}

TEST(Address, SurvivesTheTripThroughASockaddr) {
  for (const Address& address :
       {Address(IpAddress::loopback(Family::V4), 80),
        Address(IpAddress::loopback(Family::V6), 65535), Address(UnixPath{"/run/app.sock"}),
        Address(UnixPath{std::string(kLongestUnixName, 'p')}), Address(AbstractName{"app"}),
        Address(AbstractName{std::string("a\0b", 3)}), Address(VsockAddress{3, 1024})}) {
    const auto sockaddr = sockaddr_of(address);
    ASSERT_TRUE(sockaddr) << address.text();
    EXPECT_EQ(address_from(*sockaddr), address) << address.text();
  }
}

TEST(Address, IsTheNameThatTheKernelGivesBack) {
  const Address name = AbstractName{"portfwd-address-test-" + std::to_string(::getpid())};
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto sockaddr = sockaddr_of(name);
  ASSERT_TRUE(sockaddr);
  ASSERT_EQ(::bind(fd.get(), sockaddr->get(), sockaddr->length), 0);
  EXPECT_EQ(bound_name(fd.get()), name);
}

TEST(Address, HasNoSockaddrForAUnixNameThatCannotBe) {
  EXPECT_FALSE(sockaddr_of(UnixPath{""}));
  EXPECT_FALSE(sockaddr_of(AbstractName{""}));
  EXPECT_FALSE(sockaddr_of(UnixPath{std::string("/a\0b", 4)}));
  EXPECT_FALSE(sockaddr_of(UnixPath{std::string(kLongestUnixName + 1, 'p')}));
  EXPECT_FALSE(sockaddr_of(AbstractName{std::string(kLongestUnixName + 1, 'p')}));
}

TEST(Address, RejectsASockaddrThatIsCutOrUnnamed) {
  SockAddr unnamed;
  unnamed.storage.ss_family = AF_UNIX;
  unnamed.length = sizeof(sa_family_t);
  EXPECT_FALSE(address_from(unnamed));
  SockAddr vsock = *sockaddr_of(VsockAddress{3, 1024});
  vsock.length = 4;
  EXPECT_FALSE(address_from(vsock));
  SockAddr other;
  other.storage.ss_family = AF_NETLINK;
  other.length = sizeof other.storage;
  EXPECT_FALSE(address_from(other));
}

TEST(Address, HasAnEndpointOnlyIfItIsAnIpAddress) {
  const Address port(IpAddress::loopback(Family::V4), 80);
  ASSERT_NE(port.endpoint(), nullptr);
  EXPECT_EQ(port.endpoint()->port, 80);
  EXPECT_EQ(Address(UnixPath{"/run/app.sock"}).endpoint(), nullptr);
}

TEST(Protocol, HasTheNameThatUsersRead) {
  EXPECT_EQ(name_of(Protocol::Tcp), "tcp");
  EXPECT_EQ(name_of(Protocol::Udp), "udp");
  EXPECT_EQ(name_of(Protocol::Unix), "unix");
  EXPECT_EQ(name_of(SocketType::Stream), "stream");
  EXPECT_EQ(name_of(SocketType::Seqpacket), "seqpacket");
}

TEST(Address, PrintsItsKind) {
  EXPECT_EQ(Address(IpAddress::loopback(Family::V6), 80).text(), "[::1]:80");
  EXPECT_EQ(Address(UnixPath{"/run/app.sock"}).text(), "/run/app.sock");
  EXPECT_EQ(Address(AbstractName{"app"}).text(), "@app");
  EXPECT_EQ(Address(VsockAddress{3, 1024}).text(), "vsock:3:1024");
}

}  // namespace
}  // namespace portfwd
