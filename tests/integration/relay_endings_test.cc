// Ends of relayed connections, for each side that ends first and each kind of socket: an end of
// stream is passed on as one and a reset as a reset, neither before the data, and each direction
// ends by itself. A Unix socket is reset only if its peer closes with unread bytes; where TCP would
// be reset it sees an end of stream.
#include <gtest/gtest.h>

#include "support/relay_rig.h"

namespace portfwd {
namespace {

using namespace testing_support;

enum class Beginner : std::uint8_t { Client, Target };
using Parting = std::tuple<Kinds, Beginner>;

struct PartingTest : testing::TestWithParam<Parting> {
  [[nodiscard]] StreamKind kind_of(Beginner side) const {
    const Kinds& kinds = std::get<Kinds>(GetParam());
    return side == Beginner::Client ? kinds.first : kinds.second;
  }
  /// The ending that `last` sees when `first` is reset; Unix sockets see an end of stream.
  [[nodiscard]] Ending reset_as_seen_by_last() const {
    return last_kind == StreamKind::Unix ? Ending::Fin : Ending::Reset;
  }
  bool relay_is_over() {
    return rig.until([this] { return !rig.relay; });
  }
  /// Writes all of `text` while the relay runs, and waits until the relay or the peer has received
  /// it.
  void send_completely(const UniqueFd& fd, std::string_view text) {
    ASSERT_TRUE(rig.until([&] {
      const auto n = ::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (n > 0) text.remove_prefix(static_cast<std::size_t>(n));
      return text.empty() && unsent_bytes(fd.get()) == 0;
    }));
    rig.settle();
  }

  bool client_begins = std::get<Beginner>(GetParam()) == Beginner::Client;
  RelayRig rig{std::get<Kinds>(GetParam())};
  UniqueFd& first = client_begins ? rig.client : rig.target;  ///< ends its side first
  UniqueFd& last = client_begins ? rig.target : rig.client;
  std::uint64_t& delivered_back = client_begins ? rig.counters.bytes_out : rig.counters.bytes_in;
  StreamKind first_kind = kind_of(client_begins ? Beginner::Client : Beginner::Target);
  StreamKind last_kind = kind_of(client_begins ? Beginner::Target : Beginner::Client);
};

/// The cases in which `first` is TCP, and so can reset.
struct ResetTest : PartingTest {};

constexpr Kinds kTcp4{StreamKind::Tcp4, StreamKind::Tcp4};
constexpr Kinds kTcp6{StreamKind::Tcp6, StreamKind::Tcp6};
constexpr Kinds kUnix{StreamKind::Unix, StreamKind::Unix};
constexpr Kinds kTcp4AndTcp6{StreamKind::Tcp4, StreamKind::Tcp6};
constexpr Kinds kTcp4AndUnix{StreamKind::Tcp4, StreamKind::Unix};
constexpr std::array kBothBegin{Beginner::Client, Beginner::Target};

std::string parting_name(const testing::TestParamInfo<Parting>& info) {
  const auto& [kinds, beginner] = info.param;
  return name_of(kinds) + (beginner == Beginner::Client ? "ClientFirst" : "TargetFirst");
}

INSTANTIATE_TEST_SUITE_P(Streams, PartingTest,
                         testing::Combine(testing::Values(kTcp4, kTcp6, kUnix, kTcp4AndTcp6,
                                                          kTcp4AndUnix),
                                          testing::ValuesIn(kBothBegin)),
                         parting_name);
INSTANTIATE_TEST_SUITE_P(Tcp, ResetTest,
                         testing::Combine(testing::Values(kTcp4, kTcp6, kTcp4AndTcp6),
                                          testing::ValuesIn(kBothBegin)),
                         parting_name);
INSTANTIATE_TEST_SUITE_P(TcpAndUnix, ResetTest,
                         testing::Values(Parting{kTcp4AndUnix, Beginner::Client}), parting_name);

TEST_P(PartingTest, DeliversToASideThatHasShutDownSending) {
  const std::string much = random_text(3'000'000);
  write_all(first, "all I have");
  Received got;
  std::size_t sent = 0;
  EXPECT_TRUE(rig.until([&] {
    const auto n = ::send(last.get(), much.data() + sent, much.size() - sent, MSG_NOSIGNAL);
    if (n > 0) sent += static_cast<std::size_t>(n);
    if (sent > 0) ::shutdown(first.get(), SHUT_WR);
    if (sent == much.size()) ::shutdown(last.get(), SHUT_WR);
    read_available(first, got);
    return got.ending != Ending::None;
  }));
  EXPECT_EQ(got.ending, Ending::Fin);
  EXPECT_TRUE(got.text == much) << got.text.size();
  const Received words = rig.receive_to_end(last);
  EXPECT_EQ(words.text, "all I have");
  EXPECT_EQ(words.ending, Ending::Fin);
  EXPECT_TRUE(relay_is_over());
}

TEST_P(PartingTest, RelaysAnEndOfStreamWhileTheOtherSideSends) {
  ::shutdown(first.get(), SHUT_WR);
  EXPECT_EQ(rig.receive_to_end(last).ending, Ending::Fin);
  for (int i = 0; i < 3; ++i) {
    write_all(last, "part");
    EXPECT_EQ(rig.receive(first, 4).text, "part");
  }
  EXPECT_TRUE(rig.relay);
}

TEST_P(PartingTest, DeliversTheEndOfStreamAfterTheDataOfAClosedWindow) {
  const std::size_t written = rig.fill(first);
  first.reset();
  rig.settle();
  const Received got = rig.receive_to_end(last);
  EXPECT_EQ(got.text.size(), written);
  EXPECT_EQ(got.ending, Ending::Fin);
}

TEST_P(PartingTest, ResetsTheOtherSideWhenOneClosesWithUnreadBytes) {
  write_all(last, "never read");
  ASSERT_TRUE(rig.until([&] { return wait_for(first.get(), POLLIN, 0); }));
  write_all(first, "rather this");
  first.reset();
  const Received got = rig.receive_to_end(last);
  EXPECT_EQ(got.text, "rather this");
  EXPECT_EQ(got.ending, reset_as_seen_by_last());
  EXPECT_TRUE(relay_is_over());
}

TEST_P(PartingTest, ResetsASideThatWritesToAClosedOne) {
  first.reset();
  EXPECT_EQ(rig.receive_to_end(last).ending, Ending::Fin) << "an ordinary end at first";
  rig.settle();  // a Unix socket reports EPOLLHUP from now on; the relay must not spin
  write_all(last, "hello?");
  ASSERT_TRUE(relay_is_over());
  EXPECT_EQ(::send(last.get(), "!", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

/// What `last` sends is never read; if its relay socket were closed with unread bytes, the kernel
/// would discard the data that it still has to send.
TEST_P(PartingTest, DeliversAllDataWhileInputIsDiscarded) {
  const std::string answer = random_text(600'000);  // more than windows and buffers hold at once
  send_completely(first, answer);
  first.reset();
  rig.settle();
  for (int i = 0; i < 3; ++i) {
    (void)::send(last.get(), "nobody reads this", 17, MSG_NOSIGNAL);
    rig.settle();  // though epoll calls it writable
  }
  ::shutdown(last.get(), SHUT_WR);
  rig.settle();
  const Received got = rig.receive_to_end(last);
  EXPECT_TRUE(got.text == answer) << got.text.size();
  EXPECT_TRUE(got.ending == Ending::Fin || last_kind == StreamKind::Unix);
  EXPECT_TRUE(relay_is_over());
}

TEST_P(PartingTest, EndsWhenBothSidesCloseAtOnce) {
  first.reset();
  last.reset();
  ASSERT_TRUE(rig.loop.turn(Duration::zero()));
  EXPECT_TRUE(relay_is_over());
}

TEST_P(PartingTest, EndsWhenBothSidesResetWithBytesUnderWay) {
  rig.fill(first);
  rig.fill(last);
  reset(first);
  reset(last);
  EXPECT_TRUE(relay_is_over());
  EXPECT_EQ(rig.context.pipes().leased(), 0U);
}

TEST_P(PartingTest, AbortResetsBothSides) {
  rig.relay->abort();
  const auto cut_off = [](StreamKind kind) {
    return kind == StreamKind::Unix ? Ending::Fin : Ending::Reset;
  };
  EXPECT_EQ(rig.receive_to_end(first).ending, cut_off(first_kind));
  EXPECT_EQ(rig.receive_to_end(last).ending, cut_off(last_kind));
}

TEST_P(ResetTest, DeliversAResetAfterTheDataBeforeIt) {
  for (const std::size_t size : {1UL, 4096UL, 100'000UL}) {
    SCOPED_TRACE(size);
    RelayRig own(std::get<Kinds>(GetParam()));
    UniqueFd& from = client_begins ? own.client : own.target;
    const std::string text = random_text(size);
    write_all(from, text);
    reset(from);
    const Received got = own.receive_to_end(client_begins ? own.target : own.client);
    EXPECT_TRUE(got.text == text) << got.text.size();
    EXPECT_EQ(got.ending, reset_as_seen_by_last());
    EXPECT_TRUE(own.until([&] { return !own.relay; }));
  }
}

TEST_P(ResetTest, AResetWaitsForASlowReader) {
  const std::string text = random_text(1'500'000);
  send_completely(first, text);
  reset(first);
  rig.settle();
  const Received got = rig.receive_to_end(last);
  EXPECT_TRUE(got.text == text) << got.text.size();
  EXPECT_EQ(got.ending, reset_as_seen_by_last());
  EXPECT_TRUE(relay_is_over());
}

TEST_P(ResetTest, RelaysAResetAfterAHalfClose) {
  ::shutdown(first.get(), SHUT_WR);
  EXPECT_EQ(rig.receive_to_end(last).ending, Ending::Fin);
  reset(first);
  ASSERT_TRUE(relay_is_over());
  EXPECT_EQ(::send(last.get(), "!", 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE) << "reset after its peer's FIN";
}

/// The relay has all data in its own buffers: it can read nothing that would report the reset.
TEST_P(ResetTest, RelaysAResetOfTheReaderToAnIdleWriter) {
  const std::string some = random_text(50'000);
  std::size_t written = 0;
  while (written == delivered_back) {
    write_all(last, some);
    written += some.size();
    rig.settle();
  }
  reset(first);
  EXPECT_EQ(rig.receive_to_end(last).ending, reset_as_seen_by_last());
  EXPECT_TRUE(relay_is_over());
}

TEST_P(ResetTest, ABlockedDirectionNoticesThatItsReaderWasReset) {
  rig.fill(last);
  reset(first);
  ASSERT_TRUE(relay_is_over());
  EXPECT_EQ(rig.receive_to_end(last).ending, Ending::Reset) << "even Unix: it was not heard out";
}

}  // namespace
}  // namespace portfwd
