// Connections of Unix sockets whose messages must stay whole: records of SOCK_SEQPACKET, and
// streams with descriptors, through the real portfwd-relay.
#include <gtest/gtest.h>

#include "relay_process/message_relay.h"
#include "support/few_descriptors.h"
#include "support/relay_process_fixture.h"
#include "support/relay_rig.h"

namespace portfwd {
namespace {

using namespace testing_support;
using relay_process::kLargestRecord;

constexpr CarryOptions kPass{.pass_fds = true};

struct RelayRecordsTest : RelayProcessTest {
  /// With senders that can send the largest record, and more.
  Connection connect_records(Options options = {}) {
    Connection made = connect_unix(SOCK_SEQPACKET, options);
    const int size = 2 * kLargestRecord;
    for (const UniqueFd* end : {&made.client, &made.target}) {
      ::setsockopt(end->get(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    }
    return made;
  }
};

TEST_F(RelayRecordsTest, KeepsTheBoundariesOfRecordsBothWays) {
  const Connection connection = connect_records();
  for (const char* record : {"one", "two", "three"}) write_all(connection.client, record);
  for (const char* record : {"one", "two", "three"}) {
    EXPECT_EQ(receive_one(connection.target).bytes, record);
  }
  write_all(connection.target, "back");
  EXPECT_EQ(receive_one(connection.client).bytes, "back");
  EXPECT_TRUE(until([&] { return counters.bytes_in == 11 && counters.bytes_out == 4; }));
}

TEST_F(RelayRecordsTest, AnEmptyRecordIsNotTheEnd) {
  Connection connection = connect_records();
  EXPECT_EQ(send_with(connection.client, "", std::span<const int>()), 0);
  write_all(connection.client, "after it");
  const UnixMessage empty = receive_one(connection.target);
  EXPECT_EQ(empty.size, 0);
  EXPECT_EQ(receive_one(connection.target).bytes, "after it");
  EXPECT_EQ(send_with(connection.client, "", std::span<const int>()), 0);
  connection.client.reset();
  EXPECT_EQ(receive_one(connection.target).size, 0);
  connection.target.reset();
  EXPECT_TRUE(is_over(connection));
}

TEST_F(RelayRecordsTest, RelaysTheLargestRecordAndResetsAtALargerOne) {
  const Connection connection = connect_records();
  const std::string largest = random_text(kLargestRecord);
  write_all(connection.client, largest);
  EXPECT_TRUE(receive_one(connection.target).bytes == largest);
  EXPECT_TRUE(over.empty());
  write_all(connection.client, largest + "x");
  EXPECT_EQ(receive_one(connection.target).size, 0) << "nothing of it";
  EXPECT_LE(receive_one(connection.client).size, 0);
  EXPECT_TRUE(is_over(connection));
  EXPECT_EQ(group.fds_refused, 0u);
}

TEST_F(RelayRecordsTest, ASlowReaderGetsEveryRecord) {
  const Connection connection = connect_records();
  std::vector<std::string> sent;
  std::size_t accepted = 0;
  const auto fill = [&] {
    for (;;) {
      std::string record = random_text(1 + 7919 * sent.size() % 60'000);
      if (::send(connection.client.get(), record.data(), record.size(), MSG_NOSIGNAL) < 0) return;
      sent.push_back(std::move(record));
    }
  };
  EXPECT_TRUE(until([&] {
    fill();
    return std::exchange(accepted, sent.size()) == sent.size() && counters.bytes_in > 0;
  }));
  for (const std::string& record : sent) {
    EXPECT_TRUE(receive_one(connection.target).bytes == record);
  }
}

TEST_F(RelayRecordsTest, ClosesEachDirectionSeparately) {
  Connection connection = connect_records();
  write_all(connection.client, "last");
  ::shutdown(connection.client.get(), SHUT_WR);
  EXPECT_EQ(receive_one(connection.target).bytes, "last");
  EXPECT_EQ(receive_one(connection.target).size, 0);
  write_all(connection.target, "still answered");
  EXPECT_EQ(receive_one(connection.client).bytes, "still answered");
  connection.target.reset();
  EXPECT_EQ(receive_one(connection.client).size, 0);
  EXPECT_TRUE(is_over(connection));
}

TEST_F(RelayRecordsTest, ASenderToAClosedSideIsToldAndGetsWhatCameBefore) {
  Connection connection = connect_records();
  write_all(connection.target, "parting words");
  EXPECT_TRUE(becomes_readable(connection.client));
  connection.target.reset();
  EXPECT_TRUE(until(
      [&] { return ::send(connection.client.get(), "?", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE; }));
  EXPECT_EQ(receive_one(connection.client).bytes, "parting words");
  EXPECT_TRUE(is_over(connection));
}

TEST_F(RelayRecordsTest, AbortEndsBothSides) {
  Connection connection = connect_records();
  write_all(connection.client, "x");
  EXPECT_EQ(receive_one(connection.target).bytes, "x");
  connection.relay->abort();
  EXPECT_EQ(receive_one(connection.client).size, 0);
  EXPECT_EQ(receive_one(connection.target).size, 0);
  EXPECT_TRUE(until([&] { return process->is_idle(); }));
}

TEST_F(RelayRecordsTest, RefusesDescriptorsThatAreNotWanted) {
  const Connection connection = connect_records({.without_pass_rights = true});
  ASSERT_EQ(send_with(connection.client, "x", numbered_fd(1)), 1);
  EXPECT_EQ(receive_one(connection.target).size, 0);
  EXPECT_TRUE(is_over(connection));
  EXPECT_EQ(group.fds_refused, 1u);
}

struct PassedDescriptorsTest : RelayRecordsTest, testing::WithParamInterface<int> {
  Connection connect_passing() {
    return GetParam() == SOCK_SEQPACKET ? connect_records(kPass) : connect_unix(SOCK_STREAM, kPass);
  }
};
INSTANTIATE_TEST_SUITE_P(Types, PassedDescriptorsTest, testing::Values(SOCK_STREAM, SOCK_SEQPACKET),
                         [](const auto& type) {
                           return type.param == SOCK_STREAM ? "Stream" : "Seqpacket";
                         });

TEST_P(PassedDescriptorsTest, RelaysAsManyAsAMessageCanCarryBothWays) {
  const Connection connection = connect_passing();
  std::vector<UniqueFd> fds;
  std::vector<int> numbers;
  for (int i = 0; i < 253; ++i) numbers.push_back(fds.emplace_back(numbered_fd(i)).get());
  for (const bool back : {false, true}) {
    ASSERT_EQ(send_with(back ? connection.target : connection.client, "x", numbers), 1);
    UnixMessage got = receive_one(back ? connection.client : connection.target);
    EXPECT_EQ(got.bytes, "x");
    ASSERT_EQ(got.fds.size(), 253u);
    if (!back) continue;  // both are descriptors of the same pipes
    for (int i = 0; i < 253; ++i) EXPECT_EQ(number_in(got.fds[static_cast<std::size_t>(i)]), i);
  }
}

TEST_P(PassedDescriptorsTest, RelaysThousandMessagesInOrder) {
  const Connection connection = connect_passing();
  constexpr int kMessages = 1000;  // the last one is followed by no plain one
  int sent = 0;
  int received = 0;
  std::string text;
  EXPECT_TRUE(until([&] {
    while (sent < kMessages) {
      if (send_with(connection.client, std::to_string(sent), numbered_fd(sent)) < 0) break;
      if (++sent % 3 == 0) (void)!::send(connection.client.get(), ", ", 2, MSG_NOSIGNAL);  // plain
    }
    for (UnixMessage got = receive_message(connection.target); got.size > 0;
         got = receive_message(connection.target)) {
      text += got.bytes;
      for (const UniqueFd& fd : got.fds) EXPECT_EQ(number_in(fd), received++);
    }
    return received == kMessages && text.ends_with("999");
  })) << sent
      << " sent, " << received << " received";
}

TEST_P(PassedDescriptorsTest, RelaysThemAfterAHalfClose) {
  const Connection connection = connect_passing();
  ::shutdown(connection.target.get(), SHUT_WR);
  EXPECT_EQ(receive_one(connection.client).size, 0);
  ASSERT_EQ(send_with(connection.client, "x", numbered_fd(7)), 1);
  const UnixMessage got = receive_one(connection.target);
  ASSERT_EQ(got.fds.size(), 1u);
  EXPECT_EQ(number_in(got.fds[0]), 7);
}

/// Its limit on descriptors is the reader's, who does not read: the messages wait with theirs.
TEST_P(PassedDescriptorsTest, KeepsThemWithTheirMessageForASlowReader) {
  const Connection connection = connect_passing();
  const std::string much(20'000, 'x');
  int sent = 0;
  TimePoint since = loop.now();
  EXPECT_TRUE(until([&] {  // until the relay accepts no more
    if (send_with(connection.client, much, numbered_fd(sent)) > 0) ++sent, since = loop.now();
    return loop.now() - since > std::chrono::milliseconds(100);
  }));
  EXPECT_GT(sent, 10);
  int received = 0;
  EXPECT_TRUE(until([&] {
    const UnixMessage got = receive_message(connection.target);
    for (const UniqueFd& fd : got.fds) EXPECT_EQ(number_in(fd), received++);
    return received == sent;
  })) << received;
}

using RelayedStreamTest = RelayRecordsTest;

/// A reader that reads small parts sees exactly where descriptors belong.
TEST_F(RelayedStreamTest, ADescriptorArrivesWithItsByte) {
  const Connection connection = connect_unix(SOCK_STREAM, kPass);
  const std::string before = random_text(40'000);
  write_all(connection.client, before);
  ASSERT_EQ(send_with(connection.client, "with", numbered_fd(1)), 4);
  write_all(connection.client, "between");
  ASSERT_EQ(send_with(connection.client, "again", numbered_fd(2)), 5);
  std::string text;
  std::vector<std::size_t> places;
  EXPECT_TRUE(until([&] {
    for (UnixMessage got = receive_message(connection.target, 1); got.size > 0;
         got = receive_message(connection.target, 1)) {
      if (!got.fds.empty()) places.push_back(text.size());
      text += got.bytes;
    }
    return text.size() == before.size() + 16;
  }));
  EXPECT_EQ(places, (std::vector{before.size(), before.size() + 11}));
  EXPECT_TRUE(text == before + "withbetweenagain");
}

TEST_F(RelayedStreamTest, IsResetWhenDescriptorsAreLostToALimit) {
  const FewDescriptors few(200);  // inherited by the process that starts now
  rlimit limit{};
  ASSERT_EQ(::prlimit(0, RLIMIT_NOFILE, nullptr, &limit), 0);
  Connection connection = connect_unix(SOCK_STREAM, kPass);
  write_all(connection.client, "?");
  EXPECT_EQ(receive(connection.target, 1).text, "?");
  limit.rlim_cur = 16;
  limit.rlim_max = 16;
  ASSERT_EQ(::prlimit(process->pid(), RLIMIT_NOFILE, &limit, nullptr), 0) << std::strerror(errno);
  const UniqueFd passed = numbered_fd(1);
  const std::vector<int> many(100, passed.get());
  ASSERT_EQ(send_with(connection.client, "x", many), 1);
  EXPECT_LE(receive_one(connection.target).size, 0) << "not the byte without its descriptors";
  EXPECT_TRUE(is_over(connection));
  EXPECT_EQ(group.fds_refused, 0u);
}

}  // namespace
}  // namespace portfwd
