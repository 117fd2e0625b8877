// Another local user: processes and namespaces of that user, and connections.
#include "stall/stall_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct StallByOtherUser : StallTest {
  ~StallByOtherUser() override { OtherUser::stop(); }

  static void report(int ready, int value) { (void)!::write(ready, &value, sizeof value); }

  /// Connects, writes and closes, repeatedly.
  static void flood(int ready, int port) {
    const SockAddr address = to_sockaddr({kV4, static_cast<Port>(port)});
    report(ready, 0);
    for (;;) {
      const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::connect(fd.get(), address.get(), address.length) == 0) {
        (void)!::send(fd.get(), "x", 1, MSG_NOSIGNAL);
      }
    }
  }

  /// Starts `count` processes with a network namespace each.
  static void fill(int ready, int count) {
    int made = 0;
    for (int i = 0; i < count; ++i) {
      std::array<int, 2> ends{};
      if (::pipe(ends.data()) != 0) break;
      if (::fork() == 0) {
        ::close(ends[0]);
        const int error = enter_own_namespaces(CLONE_NEWUSER | CLONE_NEWNET);
        report(ends[1], error);
        ::close(ends[1]);
        ::pause();
      }
      ::close(ends[1]);
      int error = -1;
      (void)!::read(ends[0], &error, sizeof error);
      ::close(ends[0]);
      if (error == 0) ++made;
    }
    report(ready, made);
    ::pause();
  }

  /// Creates and removes namespaces, `count` at a time.
  static void churn(int ready, int count) {
    report(ready, 0);
    for (int i = 0; i < count; ++i) {
      if (::fork() != 0) continue;
      for (;;) {
        const pid_t pid = ::fork();
        if (pid == 0) {
          static_cast<void>(enter_own_namespaces(CLONE_NEWUSER | CLONE_NEWNET));
          ::_exit(0);
        }
        ::waitpid(pid, nullptr, 0);
      }
    }
    ::pause();
  }
};

TEST_F(StallByOtherUser, IsNotSeenBesideAFloodOfConnections) {
  expect_no_stall_beside([&] {
    const Box flooded;
    ASSERT_EQ(flooded.open(9000), 0);
    ASSERT_TRUE(until([&] { return greeting({kV4, 9000}) == "9000 here\n"; }));
    ASSERT_EQ(OtherUser::run(flood, 9000), 0);
    go_on_for(3s);
    OtherUser::stop();
  });
}

TEST_F(StallByOtherUser, IsNotSeenBesideHundredsOfNamespaces) {
  expect_no_stall_beside([&] {
    ASSERT_EQ(OtherUser::run(fill, 400), 400);
    go_on_for(2s);
    OtherUser::stop();
    go_on_for(1s);
  });
}

TEST_F(StallByOtherUser, IsNotSeenBesideNamespacesThatComeAndGo) {
  expect_no_stall_beside([&] {
    ASSERT_EQ(OtherUser::run(churn, 1), 0);
    go_on_for(3s);
    OtherUser::stop();
  });
}

}  // namespace
}  // namespace portfwd
