// SocketPool: sockets made ahead. The test acts as the broker.
#include "broker/client/socket_pool.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "support/fake_broker.h"
#include "support/few_descriptors.h"
#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::FakeBroker;
using testing_support::FewDescriptors;
using testing_support::ManualClock;

struct Taker final : SocketWaiter {
  void on_socket(Result<UniqueFd> result) override {
    ++calls;
    error = result ? 0 : result.error().code;
    if (result) socket = std::move(*result);
  }
  int calls = 0;
  int error = 0;
  UniqueFd socket;
};

struct SocketPoolTest : testing::Test {
  SocketPoolTest() { log::set_level(log::Level::Error); }
  ~SocketPoolTest() override { log::set_level(log::Level::Info); }
  void turn() { ASSERT_TRUE(loop.turn(Duration::zero())); }
  /// Answers the pool's requests. @return the number of requested sockets
  std::uint32_t serve() {
    turn();
    std::uint32_t asked = 0;
    while (const auto request = fake->next_request()) {
      broker::Reply reply;
      reply.id = request->id;
      reply.count = request->op == broker::Op::Join ? 0 : request->count;
      fake->send(reply, reply.count);
      asked += reply.count;
    }
    turn();
    return asked;
  }
  /// The broker answers the next request with an error.
  void refuse(int error) {
    turn();
    while (const auto request = fake->next_request()) {
      broker::Reply reply;
      reply.id = request->id;
      if (request->op != broker::Op::Join) reply.error = error, reply.step = broker::Step::Socket;
      fake->send(reply, 0);
    }
    turn();
  }
  void take_all() {
    while (pool.stock(Family::V4) > 0) EXPECT_TRUE(pool.acquire(Family::V4).valid());
  }

  ManualClock clock;
  EventLoop loop{clock};
  std::shared_ptr<FakeBroker> fake = std::make_shared<FakeBroker>();
  SocketPool pool{loop, std::make_shared<BrokerClient>(loop, fake, UniqueFd()), -1};
};

TEST_F(SocketPoolTest, RequestsNothingBeforePrepare) {
  turn();
  EXPECT_EQ(fake->launched, 0);
  pool.prepare(Family::V4);
  EXPECT_EQ(serve(), SocketPool::kFirstBatch);
  EXPECT_EQ(pool.stock(Family::V4), SocketPool::kFirstBatch);
  EXPECT_EQ(pool.stock(Family::V6), 0u);
}

TEST_F(SocketPoolTest, RefillsAHalfEmptyPool) {
  pool.prepare(Family::V4);
  serve();
  constexpr std::uint32_t kHalf = SocketPool::kFirstBatch / 2;
  for (std::uint32_t i = 1; i < kHalf; ++i) EXPECT_TRUE(pool.acquire(Family::V4).valid());
  EXPECT_EQ(serve(), 0u);
  EXPECT_TRUE(pool.acquire(Family::V4).valid());
  EXPECT_EQ(serve(), kHalf);
  EXPECT_EQ(pool.stock(Family::V4), SocketPool::kFirstBatch);
}

TEST_F(SocketPoolTest, ServesWaitersInOrder) {
  EXPECT_FALSE(pool.acquire(Family::V4).valid());
  Taker first, second;
  pool.await(Family::V4, first);
  pool.await(Family::V4, second);
  serve();
  EXPECT_TRUE(first.socket.valid());
  EXPECT_TRUE(second.socket.valid());
  EXPECT_EQ(first.calls + second.calls, 2);
}

TEST_F(SocketPoolTest, GrowsTheBatchDuringABurstAndResetsItAfterwards) {
  std::uint32_t asked = 0;
  for (int i = 0; i < 5; ++i) {
    take_all();
    Taker waiter;
    serve();
    take_all();
    pool.await(Family::V4, waiter);
    asked = serve();
    pool.withdraw(waiter);
  }
  EXPECT_LE(asked, 2 * SocketPool::kLargestBatch);
  EXPECT_LE(pool.stock(Family::V4), SocketPool::kLargestBatch);
  EXPECT_GT(pool.stock(Family::V4), SocketPool::kFirstBatch);
  serve();
  clock.advance(SocketPool::kQuiet + 1s);
  take_all();
  serve();
  EXPECT_LE(pool.stock(Family::V4), SocketPool::kFirstBatch);
}

TEST_F(SocketPoolTest, MoreTakersThanABatchAreAllServed) {
  std::array<Taker, 300> waiters;
  for (Taker& waiter : waiters) pool.await(Family::V4, waiter);
  for (int i = 0; i < 10; ++i) serve();
  for (const Taker& waiter : waiters) EXPECT_TRUE(waiter.socket.valid());
}

struct ShortSocketPoolTest : SocketPoolTest {
  static constexpr int kLimit = 512;  // descriptors are short from 384 on
  FewDescriptors few{kLimit};
  SocketPool short_pool{loop, std::make_shared<BrokerClient>(loop, fake, UniqueFd()), -1};
  std::uint32_t asked_for_one_taker() {
    Taker waiter;
    while (short_pool.acquire(Family::V4).valid()) {
    }
    short_pool.await(Family::V4, waiter);
    const std::uint32_t asked = serve();
    EXPECT_TRUE(waiter.socket.valid());
    return asked;
  }
};

TEST_F(ShortSocketPoolTest, ServesOnlyWaitersWhileDescriptorsAreShort) {
  few.use_up_to(400);
  short_pool.prepare(Family::V4);
  EXPECT_EQ(serve(), SocketPool::kFirstBatch) << "the first batch shows that descriptors are short";
  for (std::uint32_t i = 0; i < SocketPool::kFirstBatch; ++i) {
    EXPECT_TRUE(short_pool.acquire(Family::V4).valid());
  }
  short_pool.prepare(Family::V4);
  EXPECT_EQ(serve(), 0U) << "no socket is made ahead";
  EXPECT_EQ(asked_for_one_taker(), 1U);
  EXPECT_EQ(asked_for_one_taker(), 1U) << "requests do not increase the batch";
  few.use_up_to(100);
  EXPECT_EQ(asked_for_one_taker(), 1U);
  EXPECT_EQ(serve(), SocketPool::kFirstBatch) << "the shortage is over: the pool is filled";
}

TEST_F(SocketPoolTest, DoesNotCallAWithdrawnWaiter) {
  Taker gone, stays;
  pool.await(Family::V4, gone);
  pool.await(Family::V4, stays);
  pool.withdraw(gone);
  serve();
  EXPECT_EQ(gone.calls, 0);
  EXPECT_EQ(stays.calls, 1);
}

TEST_F(SocketPoolTest, RemembersAnUnsupportedFamily) {
  Taker waiter, later;
  pool.await(Family::V6, waiter);
  refuse(EAFNOSUPPORT);
  EXPECT_EQ(waiter.error, EAFNOSUPPORT);
  EXPECT_TRUE(pool.unsupported(Family::V6));
  EXPECT_FALSE(pool.unsupported(Family::V4));
  pool.await(Family::V6, later);
  EXPECT_EQ(later.calls, 0);
  EXPECT_EQ(serve(), 0u);
  EXPECT_EQ(later.error, EAFNOSUPPORT);
}

TEST_F(SocketPoolTest, ServesWaitersByTheNextBrokerAfterAFailure) {
  Taker waiter;
  pool.await(Family::V4, waiter);
  turn();
  fake->theirs.reset();
  turn();
  EXPECT_EQ(waiter.calls, 0);
  clock.advance(BrokerClient::kShortestPause);
  serve();
  EXPECT_TRUE(waiter.socket.valid());
}

TEST_F(SocketPoolTest, FailsWaitersWhenTheBrokerFailsAgain) {
  Taker waiter, later;
  pool.await(Family::V4, waiter);
  for (int failures = 1; failures <= 2; ++failures) {
    turn();
    fake->theirs.reset();
    turn();
    clock.advance(BrokerClient::kLongestPause);
  }
  EXPECT_EQ(waiter.error, ECONNRESET);
  pool.await(Family::V4, later);
  serve();
  EXPECT_TRUE(later.socket.valid());
}

TEST_F(SocketPoolTest, CancelsRequestsOnDestruction) {
  {
    SocketPool other(loop, std::make_shared<BrokerClient>(loop, fake, UniqueFd()), -1);
    other.prepare(Family::V4);
    turn();
  }
  EXPECT_EQ(fake->discarded, 1);
  turn();
}

}  // namespace
}  // namespace portfwd
