// A pair of virtual Ethernet devices between the test's network namespace and that of another
// process, as engines create them for a container. Needs root in both (a test's own user namespace
// suffices) and ip(8).
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

/// 10.88.N.1 and fd88:N::1 here, ...2 there; N is `number`, which must differ between the pairs of
/// a test.
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
  /// Deletes the device at once: the end of its namespace would delete it later, when the next test
  /// could mistake it for its own.
  ~Veth() { ip("link delete " + here); }

  [[nodiscard]] IpAddress v4() const { return *IpAddress::parse("10.88." + n + ".2"); }
  [[nodiscard]] IpAddress v6() const { return *IpAddress::parse("fd88:" + n + "::2"); }

 private:
  std::string n;     ///< of the pair
  std::string here;  ///< the device
};

}  // namespace portfwd::testing_support
