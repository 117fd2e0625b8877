// Main program of the tests that need several users. They run as root, in their own network
// namespace and without a user namespace, so that the uids are real. Otherwise the run fails and
// says so.
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <cstring>

#include "support/own_namespaces.h"

int main(int argc, char** argv) {
  using portfwd::testing_support::enter_own_namespaces;
  testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  const int error = ::geteuid() == 0 ? enter_own_namespaces(CLONE_NEWNET) : EPERM;
  if (error != 0) {
    std::fprintf(stderr,
                 "second_user_tests must run as root (sudo %s): they become several users to see "
                 "who is let in (%s)\n",
                 argv[0], std::strerror(error));
    return 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}
