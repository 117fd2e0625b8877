// Another machine as the kernel sees it: a network namespace at the other end of a cable, with an
// address of its own. Needs ip(8) and permission to change the test's own network.
#pragma once

#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "support/streams.h"
#include "support/test_netns.h"

namespace portfwd::testing_support {

class OtherMachine {
 public:
  static constexpr IpAddress kHere = IpAddress::v4(10, 77, 0, 1);
  static constexpr IpAddress kThere = IpAddress::v4(10, 77, 0, 2);

  OtherMachine() {
    const std::string there = std::to_string(ns_.pid());
    const std::string cable = "ip link add here type veth peer name there netns " + there;
    EXPECT_EQ(std::system(cable.c_str()), 0) << "ip(8) is in iproute2";
    const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    set_up(any, "here", kHere);
    set_up(ns_.socket(AF_INET, SOCK_DGRAM), "there", kThere);
  }
  OtherMachine(const OtherMachine&) = delete;
  OtherMachine& operator=(const OtherMachine&) = delete;
  ~OtherMachine() { EXPECT_EQ(std::system("ip link del here"), 0); }

  /// Opens a connection from there and completes the handshake.
  [[nodiscard]] UniqueFd connect(const Endpoint& to) const {
    UniqueFd fd = ns_.socket(AF_INET, SOCK_STREAM);
    connect_to(fd, to);
    return fd;
  }

 private:
  static void set_up(const UniqueFd& any, const char* interface, const IpAddress& address) {
    set(any, SIOCSIFADDR, interface, address);
    set(any, SIOCSIFNETMASK, interface, IpAddress::v4(255, 255, 255, 0));
    ifreq flags = request_for(interface);
    flags.ifr_flags = IFF_UP;
    EXPECT_EQ(::ioctl(any.get(), SIOCSIFFLAGS, &flags), 0) << std::strerror(errno);
  }
  static void set(const UniqueFd& any, unsigned long what, const char* interface,
                  const IpAddress& address) {
    ifreq request = request_for(interface);
    const SockAddr wanted = to_sockaddr({address, 0});
    std::memcpy(&request.ifr_addr, wanted.get(), wanted.length);
    EXPECT_EQ(::ioctl(any.get(), what, &request), 0) << std::strerror(errno);
  }
  static ifreq request_for(const char* interface) {
    ifreq request{};
    std::strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
    return request;
  }

  TestNetns ns_;
};

}  // namespace portfwd::testing_support
