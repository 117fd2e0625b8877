// A pair of virtual Ethernet devices between the test's network namespace and another process's, as
// engines make them for a container. Needs root of both (a test's own user namespace will do) and
// ip(8).
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "net/address.h"

namespace portfwd::testing_support {

inline void run(const std::string& command) {
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}
inline void ip(const std::string& words) {
  run("ip " + words);
}

/// 10.88.N.1 and fd88:N::1 here, ...2 there, where `number` N tells the pairs of one test apart.
struct Veth {
  Veth(pid_t inside, int number)
      : n(std::to_string(number)), here("pfw" + n + "_" + std::to_string(inside)) {
    ip("link add " + here + " type veth peer name eth" + n + " netns " + std::to_string(inside));
    ip("address add 10.88." + n + ".1/24 dev " + here);
    ip("address add fd88:" + n + "::1/64 dev " + here + " nodad");
    ip("link set " + here + " up");
    const std::string enter = "nsenter --net=/proc/" + std::to_string(inside) + "/ns/net ip ";
    run(enter + "address add 10.88." + n + ".2/24 dev eth" + n);
    run(enter + "address add fd88:" + n + "::2/64 dev eth" + n + " nodad");
    run(enter + "link set eth" + n + " up");
  }
  Veth(const Veth&) = delete;
  Veth& operator=(const Veth&) = delete;
  /// At once: with its namespace it would end some time later, and the next test's be mistaken.
  ~Veth() { ip("link delete " + here); }

  [[nodiscard]] IpAddress v4() const { return *IpAddress::parse("10.88." + n + ".2"); }
  [[nodiscard]] IpAddress v6() const { return *IpAddress::parse("fd88:" + n + "::2"); }

 private:
  std::string n;     ///< of the pair
  std::string here;  ///< the device
};

}  // namespace portfwd::testing_support
