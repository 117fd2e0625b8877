// Containers of the user: namespaces, listeners and processes in any number, and a broker that does
// not answer.
#include <sys/resource.h>

#include "stall/stall_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct StallByContainer : StallTest {
  /// Listens on `count` ports from `first` on.
  /// @return errno or 0
  static int open_many(const Box& box, Port first, int count) {
    return box.tell(
        [](BoxInside& inside, const BoxArgument& a) {
          for (int i = 0; i < a.number; ++i) {
            const Endpoint at{kV4, static_cast<Port>(a.at.port + i)};
            UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            const SockAddr address = to_sockaddr(at);
            if (::bind(fd.get(), address.get(), address.length) != 0) return errno;
            if (::listen(fd.get(), 1) != 0) return errno;
            inside.listeners.push_back({at, std::move(fd)});
          }
          return 0;
        },
        {.at = {kV4, first}, .number = count});
  }
  static void close_all(const Box& box) {
    box.tell([](BoxInside& inside, const BoxArgument&) {
      inside.listeners.clear();
      return 0;
    });
  }
};

TEST_F(StallByContainer, IsNotSeenBesideNestedNamespacesThatWantTheSamePorts) {
  expect_no_stall_beside([&] {
    const Box outer;
    std::vector<std::unique_ptr<Box>> nested;
    for (int i = 0; i < 100; ++i) {
      nested.emplace_back(new Box(Box::nested_in(outer)));
      ASSERT_EQ(open_many(*nested.back(), 9000, 64), 0);
    }
    go_on_for(4s);
  });
}

TEST_F(StallByContainer, IsNotSeenBesideSandboxesThatExhaustTheFallbackRange) {
  configure("[host]\nfallback_range = \"21000-22000\"\n");
  expect_no_stall_beside([&] {
    std::vector<std::unique_ptr<Box>> boxes;
    for (int i = 0; i < 40; ++i) {
      boxes.emplace_back(std::make_unique<Box>());
      ASSERT_EQ(open_many(*boxes.back(), 9000, 64), 0);
    }
    go_on_for(4s);
  });
}

TEST_F(StallByContainer, IsNotSeenBesideThousandsOfListenersThatOpenAndClose) {
  expect_no_stall_beside([&] {
    const Box box;
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(open_many(box, 10000, 5000), 0);
      go_on_for(1s);
      close_all(box);
      go_on_for(300ms);
    }
  });
}

TEST_F(StallByContainer, IsNotSeenBesideAPortThatOpensAndClosesWithoutEnd) {
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(box.tell([](BoxInside& inside, const BoxArgument&) {
      inside.churn_port = 9000;
      inside.churning = true;
      return 0;
    }),
              0);
    go_on_for(2s);
  });
}

TEST_F(StallByContainer, IsNotSeenBesideThousandsOfProcesses) {
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(box.tell([](BoxInside&, const BoxArgument&) {
      for (int i = 0; i < 1000; ++i) {
        const pid_t pid = ::fork();
        if (pid < 0) return errno;
        if (pid > 0) continue;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::pause();
      }
      return 0;
    }),
              0);
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(open_many(box, static_cast<Port>(9000 + i), 1), 0);
      go_on_for(100ms);
    }
  });
}

/// The descriptors of processes are read to find the program of a socket.
TEST_F(StallByContainer, IsNotSeenBesideProcessesWithThousandsOfDescriptors) {
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(box.tell([](BoxInside&, const BoxArgument&) {
      const int any = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
      while (::dup(any) >= 0) {
      }
      for (int i = 0; i < 10; ++i) {
        if (::fork() != 0) continue;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::pause();
      }
      ::syscall(SYS_close_range, 10000, ~0U, 0);
      return 0;
    }),
              0);
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(open_many(box, static_cast<Port>(9000 + i), 1), 0);
      go_on_for(100ms);
    }
  });
}

TEST_F(StallByContainer, IsNotSeenBesideAHugeCommandLineAndEnvironment) {
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(box.tell([](BoxInside& inside, const BoxArgument&) {
      // Child processes inherit the socket, so each of them may be its program.
      UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
      const Endpoint at{kV4, 9000};
      const SockAddr address = to_sockaddr(at);
      if (::bind(fd.get(), address.get(), address.length) != 0) return errno;
      if (::listen(fd.get(), 1) != 0) return errno;
      std::string word(120'000, 'x');
      std::vector<char*> arguments(9, word.data());
      std::vector<char*> environment(7, word.data());
      char text[3][16] = {"sh", "-c", "kill -STOP $$"};
      for (std::size_t i = 0; i < 3; ++i) arguments[i] = text[i];
      arguments.back() = nullptr;
      environment.back() = nullptr;
      for (int i = 0; i < 50; ++i) {
        if (::fork() != 0) continue;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        ::execve("/bin/sh", arguments.data(), environment.data());
        ::_exit(127);
      }
      inside.listeners.push_back({at, std::move(fd)});
      return 0;
    }),
              0);
    go_on_for(2s);
  });
}

TEST_F(StallByContainer, IsNotSeenBesideSandboxesThatLiveShortly) {
  expect_no_stall_beside([&] {
    std::array<pid_t, 2> storms{};
    for (pid_t& storm : storms) {
      storm = ::fork();
      if (storm != 0) continue;
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) {
        const pid_t pid = ::fork();
        if (pid == 0) {
          static_cast<void>(enter_own_namespaces(CLONE_NEWUSER | CLONE_NEWNET));
          const UniqueFd server = listen_at({kV4, 9000});
          ::_exit(0);
        }
        ::waitpid(pid, nullptr, 0);
      }
    }
    go_on_for(3s);
    for (const pid_t storm : storms) ::kill(storm, SIGKILL);
    for (const pid_t storm : storms) ::waitpid(storm, nullptr, 0);
  });
}

/// Both containers are still served: the one with the stopped broker by a new broker.
TEST_F(StallByContainer, IsNotSeenBesideABrokerThatIsStopped) {
  start_daemon();
  const std::vector<pid_t> calm = brokers();
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(box.open(9000), 0);
    ASSERT_TRUE(until([&] { return brokers().size() > calm.size(); }));
    ASSERT_TRUE(until([&] { return greeting({kV4, 9000}) == "9000 here\n"; }));
    for (const pid_t pid : brokers()) {
      if (std::ranges::find(calm, pid) == calm.end()) ::kill(pid, SIGSTOP);
    }
    ASSERT_EQ(open_many(box, 9001, 1), 0);
    for (int i = 0; i < 40; ++i) EXPECT_EQ(greeting({kV4, 9000}), "9000 here\n");
    go_on_for(1s);
  });
}

/// A client that neither reads nor closes, and a server that does not accept.
TEST_F(StallByContainer, IsNotSeenBesideAServerThatDoesNotAccept) {
  expect_no_stall_beside([&] {
    const Box box;
    ASSERT_EQ(open_many(box, 9000, 1), 0);
    go_on_for(1s);
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 200; ++i) {
      clients.push_back(new_socket(Family::V4));
      try_connect(clients.back(), {kV4, 9000});
      (void)!::send(clients.back().get(), "x", 1, MSG_NOSIGNAL);
    }
    go_on_for(2s);
  });
}

}  // namespace
}  // namespace portfwd
