// One relay between two pairs of sockets, of which the test holds the far ends; the test turns the
// loop. It stands for a connection that was already accepted and dialled.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "relay/relay.h"
#include "support/deadline.h"
#include "support/streams.h"

namespace portfwd::testing_support {

/// A random text; the same for the same size.
inline std::string random_text(std::size_t size) {
  std::mt19937_64 random(size);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

/// Kinds of the client's connection and of the target's.
using Kinds = std::pair<StreamKind, StreamKind>;

inline std::string name_of(const Kinds& kinds) {
  return name_of(kinds.first) + "To" + name_of(kinds.second);
}
inline std::string kinds_name(const testing::TestParamInfo<Kinds>& info) {
  return name_of(info.param);
}

/// A relay with the test at both far ends.
struct RelayRig {
  explicit RelayRig(const Kinds& kinds) {
    auto [c, c_inside] = stream_pair(kinds.first);
    auto [t_inside, t] = stream_pair(kinds.second);
    for (const UniqueFd* inside : {&c_inside, &t_inside}) context.tune(inside->get());
    client_inside = c_inside.get();
    client = std::move(c);
    target = std::move(t);
    relay = std::make_unique<Relay>(context, group, std::move(c_inside), std::move(t_inside));
    EXPECT_TRUE(relay->start());
  }

  /// Turns the loop until `done`, at most kDeadline. @return whether it is done
  bool until(const std::function<bool()>& done) {
    const TimePoint deadline = loop.now() + kDeadline;
    while (!done() && loop.now() < deadline) EXPECT_TRUE(loop.turn(std::chrono::milliseconds(20)));
    return done();
  }

  /// Turns the loop while there is work, which must end.
  void settle() {
    constexpr Duration kQuiet = std::chrono::milliseconds(5);
    for (int turns = 0; turns < 10'000; ++turns) {
      const TimePoint before = loop.now();
      EXPECT_TRUE(loop.turn(kQuiet));
      if (loop.now() - before >= kQuiet) return;
    }
    ADD_FAILURE() << "it spins";
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

  /// Writes until neither the socket nor the relay accepts more. @return bytes
  std::size_t fill(const UniqueFd& fd) {
    static const std::string kChunk(65536, 'x');
    std::size_t written = 0;
    for (int idle = 0; idle < 3;) {
      const ssize_t n = ::send(fd.get(), kChunk.data(), kChunk.size(), MSG_NOSIGNAL);
      written += static_cast<std::size_t>(std::max<ssize_t>(n, 0));
      idle = n > 0 ? 0 : idle + 1;
      EXPECT_TRUE(loop.turn(std::chrono::milliseconds(2)));
    }
    return written;
  }

  SystemClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  Counters counters;
  RelayGroup group{counters, [this](RelayedConnection& over) {
                     EXPECT_EQ(&over, relay.get()) << "called twice";
                     loop.retire(std::move(relay));
                   }};
  UniqueFd client, target;
  int client_inside;  ///< the relay's, while it lives
  std::unique_ptr<Relay> relay;
};

}  // namespace portfwd::testing_support
