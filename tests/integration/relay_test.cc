// A relay between real sockets of every kind: data arrives complete, and the relay does not spin.
// Ends of connections are in relay_endings_test.cc.
#include "relay/relay.h"

#include <gtest/gtest.h>
#include <sys/ioctl.h>

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

/// Single bytes, after so much data at once that the direction was spliced.
TEST_P(RelayTest, SingleBytesArriveInOrderWhateverCameBeforeThem) {
  const std::string much = random_text(100'000);
  const std::string little = random_text(500);
  for (int round = 0; round < 3; ++round) {
    std::string got;
    for (const char c : little) {
      write_all(rig.client, std::string(1, c));
      got += rig.receive(rig.target, 1).text;
    }
    EXPECT_TRUE(got == little);
    EXPECT_TRUE(round > 0 || rig.context.pipes().idle() == 0) << "single bytes are copied";
    write_all(rig.client, much);
    EXPECT_TRUE(rig.receive(rig.target, much.size()).text == much);
  }
  EXPECT_GE(rig.context.pipes().idle(), 1U) << "bulk is spliced";
}

/// @param settled whether the relay has seen each part before the next one is written
void send_with_urgent_byte(RelayRig& rig, std::string_view text, std::size_t urgent, bool settled) {
  const auto pause = [&] {
    if (settled) rig.settle();
  };
  if (urgent > 0) write_all(rig.client, text.substr(0, urgent));
  pause();
  ASSERT_EQ(::send(rig.client.get(), &text[urgent], 1, MSG_OOB), 1);
  pause();
  write_all(rig.client, text.substr(urgent + 1));
  pause();
  ::shutdown(rig.client.get(), SHUT_WR);
}

TEST_P(RelayTest, AnUrgentByteArrivesInItsPlaceHoweverBytesAreMoved) {
  const std::string text = random_text(100'000);
  for (const std::size_t urgent : {0UL, 100UL, Pump::kBulkRead, 60'000UL}) {
    for (const bool settled : {false, true}) {
      SCOPED_TRACE(testing::Message() << urgent << (settled ? " settled" : ""));
      RelayRig own(GetParam());
      write_all(own.client, text);  // makes the direction bulk
      EXPECT_TRUE(own.receive(own.target, text.size()).text == text);
      send_with_urgent_byte(own, text, urgent, settled);
      const Received got = own.receive_to_end(own.target);
      EXPECT_TRUE(got.text == text) << got.text.size();
      EXPECT_EQ(got.ending, Ending::Fin);
      own.settle();
    }
  }
}

std::size_t unread_bytes(int fd) {
  int bytes = 0;
  EXPECT_EQ(::ioctl(fd, FIONREAD, &bytes), 0);
  return static_cast<std::size_t>(bytes);
}

TEST_P(RelayTest, ForAPeerThatNeverReadsItHoldsAPipeFullAndTakesNoMore) {
  const std::size_t written = rig.fill(rig.client);
  rig.settle();  // the relay must not spin
  const std::size_t waits = unsent_bytes(rig.client.get()) + unread_bytes(rig.client_inside);
  const std::size_t held = written - waits - rig.counters.bytes_in;
  EXPECT_GT(waits, 0U) << "the sender is held up";
  EXPECT_LE(held, PipePool::kLarge);
  RecordProperty("written", static_cast<int>(written));
  RecordProperty("held", static_cast<int>(held));
  EXPECT_EQ(rig.receive(rig.target, written).text.size(), written) << "nothing was lost";
}

/// Each message is read at once, copied, and sent in many parts, as the reader permits.
TEST_P(RelayTest, MessagesForASlowReaderArriveWhole) {
  const int least = 1;  // the kernel applies its minimum
  ::setsockopt(rig.client_inside, SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
  const std::string message = random_text(Pump::kBulkRead - 1);
  for (int i = 0; i < 10; ++i) {
    write_all(rig.target, message);
    rig.settle();
    EXPECT_EQ(rig.receive(rig.client, message.size()).text, message);
  }
}

TEST_P(RelayTest, BothWindowsMayCloseAndOpenAgain) {
  const std::size_t question = rig.fill(rig.client);
  const std::size_t answer = rig.fill(rig.target);
  rig.settle();
  EXPECT_EQ(rig.receive(rig.target, question).text.size(), question);
  EXPECT_EQ(rig.receive(rig.client, answer).text.size(), answer);
  rig.settle();
  EXPECT_EQ(rig.context.pipes().leased(), 0U) << "an idle connection holds no pipe";
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
