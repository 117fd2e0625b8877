// Checks of a broker's replies: only a plausible one is accepted.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "broker/client/broker_client.h"
#include "broker/client/broker_launcher.h"
#include "broker/client/path_broker.h"

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

TEST_F(ReplyTest, EveryOtherOperationMakesOneSocketAndAJoinOrRemovalNone) {
  for (const auto op : {broker::Op::Listen, broker::Op::UnixConnect}) {
    request.op = op;
    reply.count = 1;
    EXPECT_TRUE(parse(reply, request));
    reply.count = 0;
    EXPECT_FALSE(parse(reply, request));
  }
  for (const auto op : {broker::Op::Join, broker::Op::UnixRemove}) {
    request.op = op;
    reply.count = 0;
    EXPECT_TRUE(parse(reply, request));
    reply.count = 1;
    EXPECT_FALSE(parse(reply, request));
  }
}

TEST_F(ReplyTest, ABoundPathHasAnIdentityAndAFewFolders) {
  request.op = broker::Op::UnixListen;
  reply.count = 1;
  EXPECT_FALSE(parse(reply, request));
  reply.bound.file.inode = 5;
  EXPECT_TRUE(parse(reply, request));
  reply.bound.parents = broker::kMostParents + 1;
  EXPECT_FALSE(parse(reply, request));
}

TEST_F(ReplyTest, RejectsFilesThatWereNotRequested) {
  reply.bound.file.inode = 5;
  EXPECT_FALSE(parse(reply, request));
  request.op = broker::Op::UnixListen;
  request.name_size = 4;
  reply.count = 1;
  EXPECT_FALSE(parse(reply, request));
  request.name_size = 0;
  fails_with(EEXIST, broker::Step::Bind);
  EXPECT_FALSE(parse(reply, request)) << "bound and failed";
}

TEST_F(ReplyTest, AFoundFileIsOfAKnownKindAndTheReasonOfAFailure) {
  request.op = broker::Op::UnixListen;
  fails_with(EEXIST, broker::Step::Bind);
  reply.found = broker::kLastFileKind;
  EXPECT_TRUE(parse(reply, request));
  reply.found = static_cast<broker::FileKind>(7);
  EXPECT_FALSE(parse(reply, request));
  reply.found = broker::FileKind::Fifo;
  request.op = broker::Op::Listen;
  EXPECT_FALSE(parse(reply, request));
  request.op = broker::Op::UnixConnect;
  reply.count = 1;
  reply.error = 0;
  reply.step = broker::Step::None;
  EXPECT_FALSE(parse(reply, request));
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

int error_of(const Result<broker::Request>& request) {
  return request ? 0 : request.error().code;
}

TEST(BrokerRequest, APathIsAbsoluteWholeAndFitsWithItsEnd) {
  const auto error = [](std::string path) {
    return error_of(unix_connection(UnixPath{std::move(path)}, {}));
  };
  EXPECT_EQ(error("relative"), EINVAL);
  EXPECT_EQ(error(""), EINVAL);
  EXPECT_EQ(error(std::string("/a\0b", 4)), EINVAL);
  const std::string longest = "/" + std::string(broker::kPathSize - 2, 'x');
  EXPECT_EQ(error(longest), 0);
  EXPECT_EQ(error(longest + "x"), ENAMETOOLONG);
  EXPECT_EQ(error("/\x01\n\xff"), 0);
}

TEST(BrokerRequest, AnAbstractNameMayHaveAnyBytesUpToTheLongest) {
  const auto error = [](std::string name) {
    return error_of(unix_connection(AbstractName{std::move(name)}, {}));
  };
  EXPECT_EQ(error(""), EINVAL);
  EXPECT_EQ(error(std::string("\0/\xff", 3)), 0);
  EXPECT_EQ(error(std::string(kLongestUnixName, '\0')), 0);
  EXPECT_EQ(error(std::string(kLongestUnixName + 1, 'x')), ENAMETOOLONG);
  static_assert(broker::kLongestName == kLongestUnixName);
}

TEST(BrokerRequest, RejectsOtherAddressesAndModes) {
  EXPECT_EQ(error_of(unix_connection(Endpoint{}, {})), EAFNOSUPPORT);
  EXPECT_EQ(error_of(unix_listener(VsockAddress{}, {})), EAFNOSUPPORT);
  EXPECT_EQ(error_of(unix_listener(UnixPath{"/s"}, {.mode = 01777})), EINVAL);
}

TEST(BrokerRequest, AConnectionHasAPeerOnlyIfOneIsGiven) {
  const auto plain = unix_connection(UnixPath{"/s"}, {}).value();
  EXPECT_EQ(plain.flags, broker::kRefuseFds);
  EXPECT_EQ(plain.type, SOCK_STREAM);
  const auto as_user =
      unix_connection(UnixPath{"/s"}, {SocketType::Seqpacket, InnerUser{70, 71}, false}).value();
  EXPECT_EQ(as_user.flags, broker::kSetPeer);
  EXPECT_EQ(as_user.type, SOCK_SEQPACKET);
  EXPECT_EQ(as_user.uid, 70u);
  EXPECT_EQ(as_user.gid, 71u);
}

TEST(BrokerRequest, AListenerIsOnlyBoundAndPrivateByDefault) {
  const auto request = unix_listener(UnixPath{"/s"}, {}).value();
  EXPECT_LT(request.backlog, 0);
  EXPECT_EQ(request.mode, 0600u);
  EXPECT_EQ(request.uid, broker::kNoChange);
  EXPECT_EQ(request.gid, broker::kNoChange);
  EXPECT_EQ(request.flags, broker::kRefuseFds);
}

TEST(BrokerRequest, ANameIsNeitherReplacedNorGivenFolders) {
  const ListenOptions options{.make_parents = true, .replace = broker::FileId{1, 2}};
  EXPECT_EQ(unix_listener(AbstractName{"n"}, options)->flags, broker::kRefuseFds);
  const auto path = unix_listener(UnixPath{"/s"}, options).value();
  EXPECT_EQ(path.flags, broker::kRefuseFds | broker::kReplace | broker::kMakeParents);
  EXPECT_EQ(path.bound.file, (broker::FileId{1, 2}));
}

TEST(ReceiveWithFds, ClosesTheDescriptorsOfAMessageWithoutBytes) {
  int socket[2];
  int pipe[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socket), 0);
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd near(socket[0]), far(socket[1]), reader(pipe[0]);
  UniqueFd writer(pipe[1]);
  const int sent = writer.get();
  ASSERT_TRUE(send_with_fds(far.get(), {}, {&sent, 1}).has_value());
  writer.reset();
  char byte = 0;
  std::byte buffer[8];
  EXPECT_EQ(receive_with_fds(near.get(), buffer).outcome, ReceivedMessage::Outcome::End);
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0) << "a descriptor is still open";
}

}  // namespace
}  // namespace portfwd
