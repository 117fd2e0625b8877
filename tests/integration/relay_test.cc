// A relay between real sockets of every kind: what comes in goes out, nothing is lost, nothing
// spins. How connections end is in relay_endings_test.cc.
#include "relay/relay.h"

#include <gtest/gtest.h>

#include "support/relay_rig.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;

struct RelayTest : testing::TestWithParam<Kinds> {
  RelayRig rig{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Streams, RelayTest,
                         testing::Values(Kinds{StreamKind::Tcp4, StreamKind::Tcp4},
                                         Kinds{StreamKind::Tcp6, StreamKind::Tcp6},
                                         Kinds{StreamKind::Tcp4, StreamKind::Tcp6},
                                         Kinds{StreamKind::Unix, StreamKind::Unix},
                                         Kinds{StreamKind::Tcp4, StreamKind::Unix}),
                         kinds_name);

TEST_P(RelayTest, CarriesBytesBothWaysAndCountsThem) {
  write_all(rig.client, "question");
  EXPECT_EQ(rig.receive(rig.target, 8).text, "question");
  write_all(rig.target, "the answer");
  EXPECT_EQ(rig.receive(rig.client, 10).text, "the answer");
  EXPECT_EQ(rig.counters.bytes_in, 8U);
  EXPECT_EQ(rig.counters.bytes_out, 10U);
}

TEST_P(RelayTest, BytesAndAnEndThatWereThereBeforeItBeganArrive) {
  write_all(rig.client, "early");
  rig.client.reset();
  const Received got = rig.receive_to_end(rig.target);
  EXPECT_EQ(got.text, "early");
  EXPECT_EQ(got.ending, Ending::Fin);
}

TEST_P(RelayTest, SingleBytesArriveInOrder) {
  const std::string text = random_text(2000);
  std::string got;
  for (const char c : text) {
    write_all(rig.client, std::string(1, c));
    got += rig.receive(rig.target, 1).text;
  }
  EXPECT_TRUE(got == text);
  EXPECT_EQ(rig.context.pipes().idle(), 0U) << "single bytes are copied";
}

TEST_P(RelayTest, TwoHundredMegabytesArriveUnchanged) {
  constexpr std::size_t kTotal = 200'000'000;
  const std::string block = random_text(1'048'573);  // a prime: chunks never line up
  std::size_t sent = 0;
  std::size_t got = 0;
  std::vector<char> buffer(1 << 20);
  bool same = true;
  ASSERT_TRUE(rig.until([&] {
    while (sent < kTotal) {
      const std::size_t at = sent % block.size();
      const std::size_t size = std::min(block.size() - at, kTotal - sent);
      const ssize_t n = ::send(rig.client.get(), block.data() + at, size, MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    for (ssize_t n = 0; (n = ::recv(rig.target.get(), buffer.data(), buffer.size(), 0)) > 0;) {
      for (std::size_t done = 0; done < static_cast<std::size_t>(n);) {
        const std::size_t at = (got + done) % block.size();
        const std::size_t size = std::min(block.size() - at, static_cast<std::size_t>(n) - done);
        same &= std::memcmp(buffer.data() + done, block.data() + at, size) == 0;
        done += size;
      }
      got += static_cast<std::size_t>(n);
    }
    return got == kTotal;
  })) << got;
  EXPECT_TRUE(same);
  EXPECT_EQ(rig.counters.bytes_in, kTotal);
  rig.settle();
  EXPECT_GE(rig.context.pipes().idle(), 1U) << "bulk is spliced";
  EXPECT_EQ(rig.context.pipes().leased(), 0U) << "an idle connection holds no pipe";
}

TEST_P(RelayTest, APeerThatNeverReadsCostsABoundedAmountAndNoWakeUps) {
  const std::size_t written = rig.fill(rig.client);
  EXPECT_LT(written, 64U << 20);
  rig.settle();
  EXPECT_EQ(rig.receive(rig.target, written).text.size(), written) << "and nothing was lost";
}

TEST_P(RelayTest, AStalledDirectionLeavesTheOtherAlone) {
  rig.fill(rig.client);
  write_all(rig.target, "still here");
  EXPECT_EQ(rig.receive(rig.client, 10).text, "still here");
}

TEST(RelayMemoryTest, AnIdleRelayIsSmall) {
  EXPECT_LE(sizeof(Relay), 288U) << "it owns nothing on the heap while it is idle";
}

TEST(RelayFairnessTest, ABulkStreamDoesNotStarveAQuestion) {
  RelayRig rig({StreamKind::Tcp4, StreamKind::Tcp4});
  rig.fill(rig.client);
  const std::uint64_t before = rig.counters.bytes_in;
  Received got;
  read_available(rig.target, got);
  ASSERT_TRUE(rig.loop.turn(1s));
  EXPECT_LE(rig.counters.bytes_in - before, Pump::kBytesPerTurn + PipePool::kLarge);
}

}  // namespace
}  // namespace portfwd
