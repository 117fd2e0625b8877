// How the kernel treats descriptors that a Unix socket carries, and records of SOCK_SEQPACKET, as
// portfwd-relay relies on it.
#include <gtest/gtest.h>

#include <ctime>

#include "support/unix_messages.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct UnixDescriptors : testing::Test {
  UnixDescriptors() { std::tie(ours, theirs) = unix_pair(SOCK_STREAM); }

  struct Peeked {
    ssize_t size = 0;
    bool descriptors = false;
  };
  /// Peeks at bytes of which the last one cannot be written, if `faults`.
  [[nodiscard]] Peeked peek(std::size_t most, bool faults = false) const {
    std::string buffer(most, '\0');
    std::array<iovec, 2> parts{iovec{buffer.data(), faults ? most - 1 : most}, iovec{nullptr, 1}};
    msghdr header{};
    header.msg_iov = parts.data();
    header.msg_iovlen = faults ? 2 : 1;
    const ssize_t size = ::recvmsg(ours.get(), &header, MSG_DONTWAIT | MSG_PEEK);
    return {size, (header.msg_flags & MSG_CTRUNC) != 0};
  }

  UniqueFd ours, theirs;
  UniqueFd passed = numbered_fd(1);
};

TEST_F(UnixDescriptors, ASpliceLosesThemWithoutASign) {
  ASSERT_EQ(send_with(theirs, "x", passed), 1);
  auto pipe = Pipe::make(PipePool::kSmall);
  ASSERT_TRUE(pipe);
  EXPECT_EQ(pipe->fill_from(ours.get()).bytes, 1u);
  EXPECT_EQ(receive_message(ours).size, -1) << "nothing is left to say that there were any";
}

TEST_F(UnixDescriptors, AReadWithoutABufferForThemSaysSo) {
  ASSERT_EQ(send_with(theirs, "x", passed), 1);
  std::array<std::byte, 8> into;
  EXPECT_EQ(receive_unaccompanied(ours.get(), into).outcome, Transfer::Outcome::Descriptors);
  ASSERT_EQ(::send(theirs.get(), "plain", 5, 0), 5);
  EXPECT_EQ(receive_unaccompanied(ours.get(), into).bytes, 5u);
}

/// So they would be given to a reader with bytes that were sent before them.
TEST_F(UnixDescriptors, AReadEndsAfterTheirMessageAndNotBeforeIt) {
  ASSERT_EQ(::send(theirs.get(), "before", 6, 0), 6);
  ASSERT_EQ(send_with(theirs, "with", passed), 4);
  ASSERT_EQ(::send(theirs.get(), "after", 5, 0), 5);
  const UnixMessage got = receive_message(ours);
  EXPECT_EQ(got.bytes, "beforewith");
  EXPECT_EQ(got.fds.size(), 1u);
  EXPECT_EQ(receive_message(ours).bytes, "after");
}

TEST_F(UnixDescriptors, PeekingReportsThemAndTakesNone) {
  ASSERT_EQ(::send(theirs.get(), "before", 6, 0), 6);
  EXPECT_FALSE(peek(100).descriptors);
  ASSERT_EQ(send_with(theirs, "with", passed), 4);
  EXPECT_EQ(peek(100).size, 10);
  EXPECT_TRUE(peek(100).descriptors);
  EXPECT_EQ(receive_message(ours, 6).fds.size(), 0u);
  EXPECT_EQ(receive_message(ours).fds.size(), 1u);
}

/// So a peek can find where a message begins, of whatever size the ones before it are.
TEST_F(UnixDescriptors, APeekThatCannotWriteAllEndsBeforeTheMessage) {
  const std::string large(30'000, 'x');
  ASSERT_EQ(::send(theirs.get(), "before", 6, 0), 6);
  ASSERT_EQ(::send(theirs.get(), large.data(), large.size(), 0), 30'000);
  ASSERT_EQ(send_with(theirs, large, passed), 30'000);
  EXPECT_EQ(peek(60'006, true).size, 30'006);
  EXPECT_EQ(receive_message(ours, 30'006).fds.size(), 0u);
  EXPECT_EQ(peek(30'000, true).size, -1) << "it is the first message";
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(receive_message(ours).fds.size(), 1u);
}

TEST_F(UnixDescriptors, ATimestampDistinguishesAnEmptyRecordFromTheEnd) {
  auto [sender, receiver] = unix_pair(SOCK_SEQPACKET);
  ASSERT_EQ(send_with(sender, "", std::span<const int>()), 0);  // before the option is set
  const int on = 1;
  ASSERT_EQ(::setsockopt(receiver.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on), 0);
  ASSERT_EQ(send_with(sender, "", std::span<const int>()), 0);
  sender.reset();
  for (const bool record : {true, true, false, false}) {
    alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(timespec))> control;
    char byte = 0;
    iovec part{&byte, 1};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    ASSERT_EQ(::recvmsg(receiver.get(), &header, MSG_DONTWAIT), 0);
    const cmsghdr* item = CMSG_FIRSTHDR(&header);
    EXPECT_EQ(item != nullptr && item->cmsg_type == SCM_TIMESTAMPNS, record);
  }
}

/// On older kernels the option is unknown, and they pass.
TEST_F(UnixDescriptors, TheirSenderIsRefusedFromWhenSoPassrightsIsOff) {
  ASSERT_EQ(send_with(theirs, "x", passed), 1);
  const int off = 0;
  const bool known = ::setsockopt(ours.get(), SOL_SOCKET, kPassRights, &off, sizeof off) == 0;
  EXPECT_EQ(send_with(theirs, "y", passed), known ? -1 : 1);
  EXPECT_EQ(receive_message(ours).fds.size(), 1u) << "sent before";
  EXPECT_EQ(::send(theirs.get(), "plain", 5, 0), 5);
}

}  // namespace
}  // namespace portfwd
