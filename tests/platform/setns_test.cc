// Properties of namespaces and of the sockets made in them: the reasons why there is a broker, why
// one broker serves a whole user namespace, and why the daemon can use its sockets without one.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>

#include <string>
#include <thread>

#include "support/sandbox.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using testing_support::Sandbox;
using testing_support::TestNetns;

UniqueFd open_ns(pid_t pid, const char* type) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/" + type;
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

/// Runs `body` in a child process. @return its result, such as an errno
template <class Body>
int in_child(Body body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

int joined(const UniqueFd& ns, int type) {
  return ::setns(ns.get(), type) == 0 ? 0 : errno;
}

std::uint64_t netns_cookie(const UniqueFd& socket) {
  std::uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  EXPECT_EQ(::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size), 0);
  return cookie;
}

TEST(UserNamespace, IsJoinedByASingleThreadedProcessOnly) {
  const TestNetns container;
  const UniqueFd userns = open_ns(container.pid(), "user");
  EXPECT_EQ(in_child([&] { return joined(userns, CLONE_NEWUSER); }), 0);
  EXPECT_EQ(in_child([&] {
              int error = 0;
              std::thread([&] { error = joined(userns, CLONE_NEWUSER); }).join();
              return error;
            }),
            EINVAL);
}

TEST(UserNamespace, CannotBeLeftOnceJoined) {
  const TestNetns container;
  const UniqueFd userns = open_ns(container.pid(), "user");
  const UniqueFd own_userns = open_ns(::getpid(), "user");
  const UniqueFd own_netns = open_ns(::getpid(), "net");
  const auto join_and_return_to = [&](const UniqueFd& ns, int type) {
    return in_child([&] {
      const int error = joined(userns, CLONE_NEWUSER);
      return error != 0 ? error : joined(ns, type);
    });
  };
  EXPECT_EQ(join_and_return_to(own_userns, CLONE_NEWUSER), EPERM);
  EXPECT_EQ(join_and_return_to(own_netns, CLONE_NEWNET), EPERM);
}

TEST(UserNamespace, ANetworkNamespaceOfANestedOneIsEnteredFromTheOuterOne) {
  const Sandbox outer(Sandbox::kUserAndNet, [] {
    static const Sandbox nested;  // lives as long as the outer one
    return nested.pid();
  });
  const UniqueFd userns = open_ns(outer.pid(), "user");
  const UniqueFd nested_netns = open_ns(outer.answer(), "net");
  ASSERT_TRUE(nested_netns.valid());
  EXPECT_EQ(in_child([&] {
              const int error = joined(userns, CLONE_NEWUSER);
              return error != 0 ? error : joined(nested_netns, CLONE_NEWNET);
            }),
            0);
  EXPECT_EQ(::kill(outer.answer(), SIGKILL), 0);
}

TEST(Socket, StaysInTheNetworkNamespaceWhereItWasMade) {
  UniqueFd socket;
  std::uint64_t before = 0;
  {
    const TestNetns container;
    socket = container.socket(AF_INET, SOCK_STREAM);
    before = netns_cookie(socket);
  }  // the process in the namespace has exited
  const UniqueFd own(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(netns_cookie(socket), before);
  EXPECT_NE(netns_cookie(socket), netns_cookie(own));
}

}  // namespace
}  // namespace portfwd
