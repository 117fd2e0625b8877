// Connections that the real portfwd-relay relays. The test has both far ends and turns the loop.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "build_paths.h"
#include "relay_process/client/relay_process.h"
#include "support/deadline.h"
#include "support/streams.h"
#include "support/unix_messages.h"

namespace portfwd::testing_support {

struct RelayProcessTest : testing::Test {
  using Options = CarryOptions;

  /// A connection with the test at both ends.
  struct Connection {
    UniqueFd client, target;
    std::unique_ptr<RelayedConnection> relay;
  };

  RelayProcessTest() { log::set_level(log::Level::Error); }
  ~RelayProcessTest() override { log::set_level(log::Level::Info); }

  /// Hands over a connection between two pairs of sockets.
  Connection hand_over(StreamPair client, StreamPair target, Options options = {}) {
    Connection made{std::move(client.first), std::move(target.first), nullptr};
    made.relay = process->carry(group, std::move(client.second), std::move(target.second), options);
    return made;
  }
  Connection connect(StreamKind client = StreamKind::Unix, StreamKind target = StreamKind::Unix,
                     Options options = {}) {
    return hand_over(stream_pair(client), stream_pair(target), options);
  }
  Connection connect_unix(int type, Options options = {}) {
    return hand_over(unix_pair(type), unix_pair(type), options);
  }

  /// Turns the loop until `done`, at most kDeadline. @return whether it is done
  bool until(const std::function<bool()>& done) {
    const TimePoint deadline = loop.now() + kDeadline;
    for (;;) {
      if (done()) return true;  // not called again: it may receive something
      if (loop.now() >= deadline) return false;
      EXPECT_TRUE(loop.turn(std::chrono::milliseconds(5)));
    }
  }
  bool is_over(const Connection& connection) {
    return until([&] { return std::ranges::count(over, connection.relay.get()) == 1; });
  }
  Received receive(const UniqueFd& fd, std::size_t at_least) {
    Received got;
    EXPECT_TRUE(until([&] {
      read_available(fd, got);
      return got.ending != Ending::None || got.text.size() >= at_least;
    })) << "got "
        << got.text.size() << " bytes of " << at_least;
    return got;
  }
  Received receive_to_end(const UniqueFd& fd) { return receive(fd, SIZE_MAX); }
  UnixMessage receive_one(const UniqueFd& fd, std::size_t most = 1 << 20) {
    UnixMessage got;
    EXPECT_TRUE(until([&] {
      got = receive_message(fd, most);
      return got.error != EAGAIN;
    }));
    return got;
  }
  bool becomes_readable(const UniqueFd& fd) {
    return until([&] { return wait_for(fd.get(), POLLIN, 0); });
  }
  /// A connection works if a byte arrives.
  bool works(const Connection& connection) {
    return ::send(connection.client.get(), "?", 1, MSG_NOSIGNAL) == 1 &&
           receive(connection.target, 1).text == "?";
  }
  bool has_exited(pid_t pid) {
    return until([&] { return ::kill(pid, 0) != 0; });
  }

  SystemClock clock;
  EventLoop loop{clock};
  RelayProcesses processes{loop, std::make_shared<SpawnLauncher>(loop, PORTFWD_RELAY_PATH, "",
                                                                 SpawnLauncher::Ending::WhenDone)};
  std::shared_ptr<RelayProcess> process = processes.process_of("box");
  Counters counters;
  std::vector<RelayedConnection*> over;
  RelayGroup group{counters, [this](RelayedConnection& relay) { over.push_back(&relay); }};
};

}  // namespace portfwd::testing_support
