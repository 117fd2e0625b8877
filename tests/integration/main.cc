// The program of the integration tests. It runs in a user and network namespace of its own with lo
// up, so that the tests need no privilege and no ports of other programs are in use. If that is
// refused, the run fails with a message.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "support/own_namespaces.h"

int main(int argc, char** argv) {
  using portfwd::testing_support::enter_own_namespaces;
  testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  if (const int error = enter_own_namespaces(CLONE_NEWUSER | CLONE_NEWNET); error != 0) {
    std::fprintf(stderr,
                 "integration tests need unprivileged user namespaces (%s): allow them with "
                 "sysctl user.max_user_namespaces=10000\n",
                 std::strerror(error));
    return 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}
