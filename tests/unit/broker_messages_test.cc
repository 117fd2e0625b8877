// Checks of a broker's replies: only a plausible one is accepted.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <string>

#include "broker/client/broker_client.h"

namespace portfwd {
namespace {

std::optional<broker::Reply> parse(const broker::Reply& reply, const broker::Request& request,
                                   std::size_t size = sizeof(broker::Reply)) {
  return parse_reply(std::as_bytes(std::span(&reply, 1)).first(size), request);
}

struct ReplyTest : testing::Test {
  ReplyTest() {
    request.id = 7;
    reply.id = 7;
    reply.count = 3;
  }
  void fails_with(int error, broker::Step step, std::uint32_t count = 0) {
    reply.error = error;
    reply.step = step;
    reply.count = count;
  }
  broker::Request request = stream_sockets(Family::V4, 3);
  broker::Reply reply;
};

TEST_F(ReplyTest, AReplyWithTheRightCountIsTaken) {
  EXPECT_TRUE(parse(reply, request));
}

TEST_F(ReplyTest, EveryShorterLengthIsNonsense) {
  for (std::size_t size = 0; size < sizeof reply; ++size) {
    EXPECT_FALSE(parse(reply, request, size)) << size;
  }
}

TEST_F(ReplyTest, AnotherVersionIsNonsense) {
  reply.version = broker::kVersion + 1;
  EXPECT_FALSE(parse(reply, request));
}

TEST_F(ReplyTest, AnotherIdIsNonsense) {
  reply.id = 8;
  EXPECT_FALSE(parse(reply, request));
}

TEST_F(ReplyTest, AnotherCountIsNonsense) {
  for (const std::uint32_t count : {0u, 2u, 4u, 0xffffffffu}) {
    reply.count = count;
    EXPECT_FALSE(parse(reply, request)) << count;
  }
}

TEST_F(ReplyTest, AFailureNeedsAnErrnoAStepAndNoDescriptors) {
  fails_with(EPERM, broker::Step::EnterNet);
  EXPECT_TRUE(parse(reply, request));
  fails_with(EPERM, broker::Step::None);
  EXPECT_FALSE(parse(reply, request));
  fails_with(-EPERM, broker::Step::EnterNet);
  EXPECT_FALSE(parse(reply, request));
  fails_with(4096, broker::Step::EnterNet);
  EXPECT_FALSE(parse(reply, request));
  fails_with(EPERM, static_cast<broker::Step>(999));
  EXPECT_FALSE(parse(reply, request));
  fails_with(EPERM, broker::Step::EnterNet, 3);
  EXPECT_FALSE(parse(reply, request));
  fails_with(0, broker::Step::EnterNet, 3);
  EXPECT_FALSE(parse(reply, request));
}

TEST_F(ReplyTest, EveryOtherOperationMakesOneSocketAndAJoinNone) {
  reply.count = 1;
  request.op = broker::Op::Listen;
  EXPECT_TRUE(parse(reply, request));
  request.op = broker::Op::Join;
  EXPECT_FALSE(parse(reply, request));
  reply.count = 0;
  EXPECT_TRUE(parse(reply, request));
}

TEST(BrokerRequest, AListenerCarriesItsAddressInNetworkOrder) {
  const auto request = listener(Protocol::Tcp, {IpAddress::loopback(Family::V6), 8080}, 64, true);
  EXPECT_EQ(request.family, AF_INET6);
  EXPECT_EQ(request.type, SOCK_STREAM);
  EXPECT_EQ(request.port, 8080u);
  EXPECT_EQ(request.address[15], 1);
  EXPECT_EQ(request.v6only, 1u);
}

TEST(BrokerRequest, ABoundStreamDoesNotListenAndTakesItsOwnFamilyOnly) {
  const auto request = bound_stream({IpAddress::loopback(Family::V6), 5432});
  EXPECT_EQ(request.op, broker::Op::Listen);
  EXPECT_LT(request.backlog, 0);
  EXPECT_EQ(request.v6only, 1u);
}

TEST(BrokerRequest, APathIsAbsoluteWholeAndFitsWithItsEnd) {
  EXPECT_EQ(unix_connection("relative").error().code, EINVAL);
  EXPECT_EQ(unix_connection("").error().code, EINVAL);
  EXPECT_EQ(unix_connection(std::string_view("/a\0b", 4)).error().code, EINVAL);
  const std::string longest = "/" + std::string(broker::kPathSize - 2, 'x');
  EXPECT_TRUE(unix_connection(longest));
  EXPECT_EQ(unix_connection(longest + "x").error().code, ENAMETOOLONG);
}

}  // namespace
}  // namespace portfwd
