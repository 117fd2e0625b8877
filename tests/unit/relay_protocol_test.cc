// The messages between the daemon and portfwd-relay: only a plausible one is accepted.
#include <gtest/gtest.h>

#include "relay_process/protocol.h"

namespace portfwd::relay_process {
namespace {

template <class Message>
std::span<const std::byte> bytes_of(const Message& message) {
  return std::as_bytes(std::span(&message, 1));
}

bool accepts(const Request& request, std::size_t fds) {
  return parse_request(bytes_of(request), fds).has_value();
}
bool accepts(const Report& report) {
  return parse_report(bytes_of(report)).has_value();
}

constexpr Request kPair{.op = Op::Pair, .relay = 1, .group = 2, .flags = kPassFds};

TEST(RelayRequest, IsAcceptedWithTheDescriptorsThatItNeeds) {
  EXPECT_TRUE(accepts(kPair, 2));
  EXPECT_TRUE(accepts({.op = Op::Discard}, 1));
  EXPECT_TRUE(accepts({.op = Op::Discard}, kMostDiscarded));
  EXPECT_TRUE(accepts({.op = Op::Released}, 0));
  EXPECT_TRUE(accepts({.op = Op::Abort, .relay = 7}, 0));
}

TEST(RelayRequest, IsRejectedWithAnyOtherNumberOfDescriptors) {
  for (const unsigned fds : {0U, 1U, 3U}) EXPECT_FALSE(accepts(kPair, fds)) << fds;
  EXPECT_FALSE(accepts({.op = Op::Discard}, 0));
  EXPECT_FALSE(accepts({.op = Op::Discard}, kMostDiscarded + 1));
  EXPECT_FALSE(accepts({.op = Op::Released}, 1));
  EXPECT_FALSE(accepts({.op = Op::Abort, .relay = 7}, 1));
}

TEST(RelayRequest, KeepsAllFields) {
  const auto request = parse_request(bytes_of(kPair), 2);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->op, Op::Pair);
  EXPECT_EQ(request->relay, 1u);
  EXPECT_EQ(request->group, 2u);
  EXPECT_EQ(request->flags, kPassFds);
}

TEST(RelayRequest, IsRejectedWhenAFieldIsWrong) {
  Request request = kPair;
  request.version = kVersion + 1;
  EXPECT_FALSE(accepts(request, 2));
  request = kPair;
  request.relay = 0;
  EXPECT_FALSE(accepts(request, 2));
  request = kPair;
  request.group = 0;
  EXPECT_FALSE(accepts(request, 2));
  request = kPair;
  request.flags = kAllFlags + 1;
  EXPECT_FALSE(accepts(request, 2));
  EXPECT_FALSE(accepts({.op = Op::Abort}, 0));
  EXPECT_FALSE(accepts({.op = Op::Abort, .relay = 1, .group = 1}, 0));
  EXPECT_FALSE(accepts({.op = Op::Released, .flags = 1}, 0));
  EXPECT_FALSE(accepts({.op = static_cast<Op>(0), .relay = 1, .group = 1}, 2));
  EXPECT_FALSE(accepts({.op = static_cast<Op>(5)}, 0));
}

TEST(RelayRequest, IsRejectedWhenItIsShorterOrLonger) {
  std::array<std::byte, sizeof(Request) + 1> bytes{};
  std::memcpy(bytes.data(), &kPair, sizeof kPair);
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    EXPECT_EQ(parse_request(std::span(bytes).first(size), 2).has_value(), size == sizeof kPair);
  }
}

constexpr Report kEnded{.news = News::Ended, .relay = 1, .group = 2, .bytes_in = 3};

TEST(RelayReport, IsAcceptedWithTheFieldsOfItsKind) {
  EXPECT_TRUE(accepts({.news = News::Accepted}));
  EXPECT_TRUE(accepts(kEnded));
  EXPECT_TRUE(accepts({.news = News::Ended, .relay = 1, .group = 2, .failed = 1}));
  EXPECT_TRUE(accepts({.news = News::Ended, .relay = 1, .group = 2, .fds_refused = 1}));
  EXPECT_TRUE(accepts({.news = News::Counters, .group = 2, .bytes_in = 3, .bytes_out = 4}));
}

TEST(RelayReport, IsRejectedWhenAFieldIsWrong) {
  EXPECT_FALSE(accepts({.version = kVersion + 1, .news = News::Accepted}));
  EXPECT_FALSE(accepts({.news = News::Accepted, .relay = 1}));
  EXPECT_FALSE(accepts({.news = News::Accepted, .bytes_in = 1}));
  EXPECT_FALSE(accepts({.news = News::Ended, .group = 2}));
  EXPECT_FALSE(accepts({.news = News::Ended, .relay = 1}));
  EXPECT_FALSE(accepts({.news = News::Ended, .relay = 1, .group = 2, .failed = 2}));
  EXPECT_FALSE(accepts({.news = News::Ended, .relay = 1, .group = 2, .fds_refused = 2}));
  EXPECT_FALSE(accepts({.news = News::Counters}));
  EXPECT_FALSE(accepts({.news = News::Counters, .relay = 1, .group = 2}));
  EXPECT_FALSE(accepts({.news = News::Counters, .group = 2, .failed = 1}));
  EXPECT_FALSE(accepts({.news = static_cast<News>(0)}));
  EXPECT_FALSE(accepts({.news = static_cast<News>(4), .relay = 1, .group = 1}));
}

TEST(RelayReport, IsRejectedWhenItIsShorterOrLonger) {
  std::array<std::byte, sizeof(Report) + 1> bytes{};
  std::memcpy(bytes.data(), &kEnded, sizeof kEnded);
  for (std::size_t size = 0; size <= bytes.size(); ++size) {
    EXPECT_EQ(parse_report(std::span(bytes).first(size)).has_value(), size == sizeof kEnded);
  }
}

}  // namespace
}  // namespace portfwd::relay_process
