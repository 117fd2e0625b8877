// Floods of datagrams: by a server in a container, from which the daemon relays answers, and by
// another user, who is authorized for no forward.
#include "stall/stall_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct StallByDatagrams : StallTest {
  StallByDatagrams() { configure("[detect]\nudp = true\n"); }
  ~StallByDatagrams() override { OtherUser::stop(); }

  static void flood(int ready, int port) {
    const SockAddr address = to_sockaddr({kV4, static_cast<Port>(port)});
    const int value = 0;
    (void)!::write(ready, &value, sizeof value);
    ::setpriority(PRIO_PROCESS, 0, 0);  // it must take a share of the CPUs, not most of them
    for (;;) {                          // each has its own port, so each is a new client
      const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      ::connect(fd.get(), address.get(), address.length);
      for (int i = 0; i < 100; ++i) (void)::send(fd.get(), "x", 1, MSG_NOSIGNAL);
    }
  }
  /// A server that answers the first datagram with datagrams of `size` bytes without end.
  static int serve_without_end(const Box& box, Port port, int size) {
    return box.tell(
        [](BoxInside&, const BoxArgument& a) {
          const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
          const SockAddr address = to_sockaddr(a.at);
          if (::bind(fd.get(), address.get(), address.length) != 0) return errno;
          if (::fork() != 0) return 0;
          ::prctl(PR_SET_PDEATHSIG, SIGKILL);
          const std::string text(static_cast<std::size_t>(a.number), 'x');
          sockaddr_storage from{};
          socklen_t length = sizeof from;
          char any = 0;
          (void)::recvfrom(fd.get(), &any, 1, 0, reinterpret_cast<sockaddr*>(&from), &length);
          for (;;) {
            (void)::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL,
                           reinterpret_cast<const sockaddr*>(&from), length);
          }
        },
        {.at = {kV4, port}, .number = size});
  }
};

TEST_F(StallByDatagrams, IsNotSeenBesideAServerThatAnswersWithoutEnd) {
  start_daemon();
  probe_datagrams();
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(serve_without_end(box, 9000, 100), 0);
    ASSERT_TRUE(wait_for_added(9000));
    const UniqueFd client(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const SockAddr address = to_sockaddr({kV4, 9000});
    ASSERT_EQ(::connect(client.get(), address.get(), address.length), 0);
    ASSERT_EQ(::send(client.get(), "x", 1, MSG_NOSIGNAL), 1);
    go_on_for(3s);
  });
}

TEST_F(StallByDatagrams, IsNotSeenBesideAnotherUsersFlood) {
  start_daemon();
  probe_datagrams();
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(box.open_datagrams({kV4, 9000}), 0);
    ASSERT_TRUE(wait_for_added(9000));
    ASSERT_EQ(OtherUser::run(flood, 9000), 0);
    go_on_for(3s);
    OtherUser::stop();
  });
}

}  // namespace
}  // namespace portfwd
