// Edge cases of stream sockets and pipes: resets, full windows, splices.
#include "kernel/stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/tcp.h>
#include <poll.h>
#include <sys/epoll.h>

#include <csignal>

#include "support/streams.h"

namespace portfwd {
namespace {

using namespace testing_support;
using enum Transfer::Outcome;

struct StreamFacts : testing::TestWithParam<Family> {};

std::string family_name(const testing::TestParamInfo<Family>& info) {
  return info.param == Family::V4 ? "V4" : "V6";
}

INSTANTIATE_TEST_SUITE_P(Tcp, StreamFacts, testing::Values(Family::V4, Family::V6), family_name);

std::uint32_t events_now(int fd, std::uint32_t wanted) {
  const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event ev{};
  ev.events = wanted;
  EXPECT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &ev), 0);
  epoll_event got{};
  return ::epoll_wait(epoll.get(), &got, 1, 0) == 1 ? got.events : 0U;
}

TEST_P(StreamFacts, BytesBeforeAResetCanBeRead) {
  auto [ours, theirs] = tcp_pair(GetParam());
  write_all(theirs, "last words");
  reset(theirs);
  Received got;
  read_available(ours, got);
  EXPECT_EQ(got.text, "last words");
  EXPECT_EQ(got.ending, Ending::Reset);
}

/// Source: inet_getname in net/ipv4/af_inet.c (ENOTCONN in CLOSE)
TEST_P(StreamFacts, ASocketHasNoPeerAfterAReset) {
  auto [ours, theirs] = tcp_pair(GetParam());
  EXPECT_EQ(peer_endpoint(ours.get()), local_endpoint(theirs.get()));
  ::shutdown(theirs.get(), SHUT_WR);
  EXPECT_EQ(peer_endpoint(ours.get()), local_endpoint(theirs.get()))
      << "a FIN does not end the connection";
  write_all(ours, "unread, which makes a close a reset");
  theirs.reset();
  EXPECT_FALSE(peer_endpoint(ours.get()));
}

TEST_P(StreamFacts, BytesBeforeAResetCanBeSpliced) {
  auto [ours, theirs] = tcp_pair(GetParam());
  write_all(theirs, "last words");
  reset(theirs);
  auto pipe = Pipe::make(PipePool::kSmall);
  ASSERT_TRUE(pipe);
  EXPECT_EQ(pipe->fill_from(ours.get()).bytes, 10U);
  auto another = Pipe::make(PipePool::kSmall);
  EXPECT_EQ(another->fill_from(ours.get()).outcome, Failed);
}

TEST_P(StreamFacts, OnceAWriteHasReportedAResetReadingEndsLikeAFin) {
  auto [ours, theirs] = tcp_pair(GetParam());
  reset(theirs);
  EXPECT_EQ(send_some(ours.get(), bytes_of("x")).outcome, Failed);
  std::array<std::byte, 8> buffer;
  EXPECT_EQ(receive_some(ours.get(), buffer).outcome, End)
      << "so the relay must remember the reset";
}

TEST_P(StreamFacts, AResetIsReportedToAMaskOfErrorsOnly) {
  auto [ours, theirs] = tcp_pair(GetParam());
  EXPECT_EQ(events_now(ours.get(), EPOLLERR), 0U);
  reset(theirs);
  EXPECT_NE(events_now(ours.get(), EPOLLERR) & EPOLLERR, 0U);
  EXPECT_EQ(take_socket_error(ours.get()), ECONNRESET);
}

TEST_P(StreamFacts, AFinIsNoHangUpUntilBothSidesHaveSentOne) {
  auto [ours, theirs] = tcp_pair(GetParam());
  theirs.reset();
  EXPECT_EQ(events_now(ours.get(), EPOLLERR), 0U);
  ::shutdown(ours.get(), SHUT_WR);
  EXPECT_EQ(events_now(ours.get(), EPOLLERR), std::uint32_t{EPOLLHUP});
  EXPECT_EQ(take_socket_error(ours.get()), 0);
}

TEST_P(StreamFacts, ASocketCanBeWritableOnlyWhenAllIsSent) {
  auto [ours, theirs] = tcp_pair(GetParam());
  const std::string chunk(1 << 20, 'x');
  while (send_some(ours.get(), bytes_of(chunk)).moved()) {
  }
  ASSERT_GT(unsent_bytes(ours.get()), 0U);
  writable_when_all_is_sent(ours.get());
  Received got;
  while (unsent_bytes(ours.get()) > 0) {
    EXPECT_EQ(events_now(ours.get(), EPOLLOUT), 0U);
    ASSERT_TRUE(wait_for(theirs.get(), POLLIN));
    read_available(theirs, got);
  }
  EXPECT_EQ(events_now(ours.get(), EPOLLOUT), std::uint32_t{EPOLLOUT});
}

/// Source: tcp_read_sock in net/ipv4/tcp.c.
TEST_P(StreamFacts, ASpliceReportsUrgentDataAsTheEnd) {
  auto [ours, theirs] = tcp_pair(GetParam());
  const int on = 1;
  ASSERT_EQ(::setsockopt(ours.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
  ASSERT_EQ(::send(theirs.get(), "!", 1, MSG_OOB), 1);
  write_all(theirs, "more");
  auto pipe = Pipe::make(PipePool::kSmall);
  ASSERT_TRUE(pipe);
  EXPECT_EQ(events_now(ours.get(), EPOLLIN | EPOLLPRI), EPOLLIN | EPOLLPRI);
  EXPECT_EQ(pipe->fill_from(ours.get()).outcome, WouldBlock) << "although there are bytes to read";
  ::shutdown(theirs.get(), SHUT_WR);
  EXPECT_EQ(pipe->fill_from(ours.get()).outcome, End) << "although there are bytes to read";
  Received got;
  read_available(ours, got);
  EXPECT_EQ(got.text, "!more");
  EXPECT_EQ(events_now(ours.get(), EPOLLPRI) & EPOLLPRI, 0U);
}

TEST_P(StreamFacts, AcceptedSocketsInheritOobInline) {
  const UniqueFd listener = listen_on_loopback(GetParam());
  const int on = 1;
  ASSERT_EQ(::setsockopt(listener.get(), SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
  const UniqueFd client = connect_to_port(*local_endpoint(listener.get()));
  ASSERT_EQ(::send(client.get(), "!", 1, MSG_OOB), 1);
  Received got;
  read_available(accept_from(listener), got);
  EXPECT_EQ(got.text, "!");
}

TEST_P(StreamFacts, AcceptedSocketsInheritSoReuseaddr) {
  const UniqueFd listener = listen_on_loopback(GetParam());
  const UniqueFd before = connect_to_port(*local_endpoint(listener.get()));
  const int on = 1;
  ASSERT_EQ(::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
  const UniqueFd after = connect_to_port(*local_endpoint(listener.get()));
  for (const int expected : {0, 1}) {
    const UniqueFd accepted = accept_from(listener);
    int reuse = -1;
    socklen_t length = sizeof reuse;
    EXPECT_EQ(::getsockopt(accepted.get(), SOL_SOCKET, SO_REUSEADDR, &reuse, &length), 0);
    EXPECT_EQ(reuse, expected) << "it is copied when the connection is complete";
  }
}

tcp_info info_of(const UniqueFd& fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  EXPECT_EQ(::getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &length), 0);
  EXPECT_GE(length, offsetof(tcp_info, tcpi_segs_in) + sizeof info.tcpi_segs_in);
  return info;
}
constexpr std::uint8_t kEstablished = 1, kSynSent = 2, kClosed = 7;  // include/net/tcp_states.h

TEST_P(StreamFacts, AHandshakeOnLoopbackIsOverWhenConnectReturns) {
  const UniqueFd listener = listen_on_loopback(GetParam());
  const Endpoint there = *local_endpoint(listener.get());
  const UniqueFd accepted = new_socket(GetParam());
  EXPECT_EQ(try_connect(accepted, there), EINPROGRESS);
  EXPECT_EQ(info_of(accepted).tcpi_state, kEstablished);
  EXPECT_EQ(info_of(accepted).tcpi_segs_in, 1U) << "the answer to its SYN";
}

TEST_P(StreamFacts, ARefusalOnLoopbackIsPendingWhenConnectReturns) {
  const UniqueFd bound = new_socket(GetParam());
  const SockAddr any = to_sockaddr({IpAddress::loopback(GetParam()), 0});
  ASSERT_EQ(::bind(bound.get(), any.get(), any.length), 0);
  const UniqueFd refused = new_socket(GetParam());
  EXPECT_EQ(try_connect(refused, *local_endpoint(bound.get())), EINPROGRESS);
  EXPECT_EQ(info_of(refused).tcpi_state, kClosed);
  EXPECT_EQ(take_socket_error(refused.get()), ECONNREFUSED);
}

TEST_P(StreamFacts, WhileABacklogIsFullAHandshakeIsInProgress) {
  const UniqueFd full = listen_at({IpAddress::loopback(GetParam()), 0}, 0);
  const UniqueFd queued = connect_to_port(*local_endpoint(full.get()));
  const UniqueFd waits = connect_to_port(*local_endpoint(full.get()));
  EXPECT_EQ(info_of(waits).tcpi_state, kSynSent);
}

TEST_P(StreamFacts, ASocketThatMeetsItselfHasReceivedMoreThanOneSegment) {
  const UniqueFd itself = new_socket(GetParam());
  const SockAddr any = to_sockaddr({IpAddress::loopback(GetParam()), 0});
  ASSERT_EQ(::bind(itself.get(), any.get(), any.length), 0);
  EXPECT_EQ(try_connect(itself, *local_endpoint(itself.get())), EINPROGRESS);
  EXPECT_EQ(info_of(itself).tcpi_state, kEstablished);
  EXPECT_GT(info_of(itself).tcpi_segs_in, 1U);
}

TEST_P(StreamFacts, SixteenSingleBytesFillADefaultPipe) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const int pages = ::fcntl(write_end.get(), F_GETPIPE_SZ) / static_cast<int>(::getpagesize());
  auto [ours, theirs] = tcp_pair(GetParam());
  int fitted = 0;
  for (; fitted <= pages; ++fitted) {
    write_all(theirs, "x");
    if (!splice_some(ours.get(), write_end.get(), 65536).moved()) break;
  }
  EXPECT_EQ(fitted, pages) << "a pipe is full when all its slots are used";
}

TEST(PipeFacts, SplicingToAClosedSocketRaisesNoSignalThatMainDoesNotIgnore) {
  const auto previous = std::signal(SIGPIPE, SIG_IGN);
  auto [ours, theirs] = stream_pair(StreamKind::Unix);
  auto [source, writer] = stream_pair(StreamKind::Unix);
  write_all(writer, "x");
  auto pipe = Pipe::make(PipePool::kSmall);
  ASSERT_TRUE(pipe && pipe->fill_from(source.get()).moved());
  theirs.reset();
  EXPECT_EQ(pipe->drain_to(ours.get()).outcome, Failed);
  EXPECT_FALSE(pipe->empty());
  (void)std::signal(SIGPIPE, previous);
}

TEST(PipePoolTest, LeasesALimitedNumberAndReusesOnlyEmptyPipes) {
  PipePool pool;
  {
    std::vector<PipePool::Lease> leases;
    for (std::size_t i = 0; i < PipePool::kMostLeased; ++i) leases.push_back(pool.lease());
    EXPECT_TRUE(leases.back());
    EXPECT_FALSE(pool.lease());
    EXPECT_LE(leases.back()->capacity(), PipePool::kSmall);
    auto [source, writer] = stream_pair(StreamKind::Unix);
    write_all(writer, "x");
    ASSERT_TRUE(leases.front()->fill_from(source.get()).moved());
    leases.front().reset();
    EXPECT_EQ(pool.idle(), 0U) << "bytes of one connection must never reach another";
  }
  EXPECT_EQ(pool.leased(), 0U);
  EXPECT_LE(pool.idle(), PipePool::kMostIdle);
}

}  // namespace
}  // namespace portfwd
