// BrokerClient against a broker that is correct, silent, faulty or dead.
#include "broker/client/broker_client.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <optional>

#include "base/log.h"
#include "support/fake_broker.h"
#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::FakeBroker;
using testing_support::ManualClock;

/// The result of a call.
struct Outcome {
  void operator()(Result<BrokerClient::Sockets> sockets) {
    ++calls;
    if (sockets) {
      count = sockets->size();
    } else {
      error = sockets.error().code;
    }
  }
  int calls = 0;
  std::size_t count = 0;
  int error = 0;
};

struct BrokerClientTest : testing::Test {
  BrokerClientTest() { log::set_level(log::Level::Error); }
  ~BrokerClientTest() override { log::set_level(log::Level::Info); }
  BrokerCall ask(Outcome& outcome, std::uint32_t count = 2) {
    return client->call(stream_sockets(Family::V4, count), -1,
                        [&outcome](Result<BrokerClient::Sockets> s) { outcome(std::move(s)); });
  }
  void turn() { ASSERT_TRUE(loop.turn(Duration::zero())); }
  /// Answers the join, then returns the correct reply to the only waiting request.
  broker::Reply good_reply() {
    const auto join = fake->next_request();
    EXPECT_EQ(join->op, broker::Op::Join);
    broker::Reply joined;
    joined.id = join->id;
    fake->send(joined, 0);
    const auto request = fake->next_request();
    broker::Reply reply;
    reply.id = request->id;
    reply.count = request->count;
    return reply;
  }
  /// Sends an invalid reply and expects the client to reject it.
  void expect_distrust(const broker::Reply& reply, std::size_t fds,
                       std::size_t size = sizeof(broker::Reply)) {
    Outcome outcome;
    const BrokerCall call = ask(outcome);
    turn();
    broker::Reply told = good_reply();
    told.version += reply.version - broker::kVersion;
    told.id += reply.id;
    told.count += reply.count;
    fake->send(told, fds, size);
    turn();
    EXPECT_EQ(outcome.error, EBADMSG);
    EXPECT_EQ(fake->discarded, 1);
  }

  ManualClock clock;
  EventLoop loop{clock};
  std::shared_ptr<FakeBroker> fake = std::make_shared<FakeBroker>();
  std::shared_ptr<BrokerClient> client = std::make_shared<BrokerClient>(loop, fake, UniqueFd());
};

TEST_F(BrokerClientTest, NothingIsStartedBeforeItIsNeeded) {
  turn();
  EXPECT_EQ(fake->launched, 0);
}

TEST_F(BrokerClientTest, SeveralCallsAreAnsweredInOrder) {
  Outcome first, second;
  const BrokerCall a = ask(first, 1);
  const BrokerCall b = ask(second, 253);
  turn();
  EXPECT_EQ(fake->answer_all(), 2);
  turn();
  EXPECT_EQ(first.count, 1u);
  EXPECT_EQ(second.count, 253u);
  EXPECT_EQ(fake->launched, 1);
}

TEST_F(BrokerClientTest, MoreCallsThanFitInFlightAreAllAnswered) {
  std::array<Outcome, 40> outcomes;
  std::vector<BrokerCall> calls;
  for (Outcome& outcome : outcomes) calls.push_back(ask(outcome));
  for (int i = 0; i < 10; ++i) turn(), fake->answer_all();
  turn();
  for (const Outcome& outcome : outcomes) EXPECT_EQ(outcome.count, 2u);
}

TEST_F(BrokerClientTest, KeepsTheBrokerAfterAnErrorReply) {
  Outcome outcome;
  const BrokerCall call = ask(outcome);
  turn();
  broker::Reply reply = good_reply();
  reply.count = 0;
  reply.error = EAFNOSUPPORT;
  reply.step = broker::Step::Socket;
  fake->send(reply, 0);
  turn();
  EXPECT_EQ(outcome.error, EAFNOSUPPORT);
  EXPECT_EQ(fake->discarded, 0);
}

TEST_F(BrokerClientTest, AWrongVersionEndsTheBroker) {
  broker::Reply off;
  off.version = broker::kVersion + 1;
  expect_distrust(off, 2);
}

TEST_F(BrokerClientTest, AWrongIdEndsTheBroker) {
  broker::Reply off;
  off.id = 1;
  expect_distrust(off, 2);
}

TEST_F(BrokerClientTest, AWrongCountEndsTheBroker) {
  broker::Reply off;
  off.count = 1;
  expect_distrust(off, 3);
}

TEST_F(BrokerClientTest, MissingDescriptorsEndTheBroker) {
  expect_distrust({}, 1);
}

TEST_F(BrokerClientTest, SurplusDescriptorsEndTheBroker) {
  expect_distrust({}, 3);
}

TEST_F(BrokerClientTest, AShortReplyEndsTheBroker) {
  expect_distrust({}, 2, sizeof(broker::Reply) - 1);
}

TEST_F(BrokerClientTest, AReplyToNothingEndsTheBroker) {
  Outcome outcome;
  const BrokerCall call = ask(outcome);
  turn();
  fake->answer_all();
  turn();
  fake->send({}, 0);
  turn();
  EXPECT_EQ(outcome.calls, 1);
  EXPECT_EQ(fake->discarded, 1);
}

TEST_F(BrokerClientTest, ASilentBrokerIsEndedAtTheDeadlineAndAllCallsFail) {
  Outcome first, second;
  const BrokerCall a = ask(first);
  const BrokerCall b = ask(second);
  turn();
  clock.advance(BrokerClient::kDeadline - 1ms);
  turn();
  EXPECT_EQ(fake->discarded, 0);
  clock.advance(1ms);
  turn();
  EXPECT_EQ(first.error, ETIMEDOUT);
  EXPECT_EQ(second.error, ETIMEDOUT);
  EXPECT_EQ(fake->discarded, 1);
}

TEST_F(BrokerClientTest, DoublesThePauseUpToASecond) {
  Outcome outcome;
  BrokerCall call = ask(outcome);
  turn();
  int launched = 1;
  for (const Duration pause : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    fake->theirs.reset();
    turn();
    EXPECT_EQ(outcome.error, ECONNRESET);
    EXPECT_EQ(outcome.calls, launched);
    call = ask(outcome);
    clock.advance(pause - 1ms);
    turn();
    EXPECT_EQ(fake->launched, launched) << "too early, of " << pause / 1ms << " ms";
    clock.advance(1ms);
    turn();
    EXPECT_EQ(fake->launched, ++launched) << "too late, of " << pause / 1ms << " ms";
  }
}

TEST_F(BrokerClientTest, ReportsABrokerThatDiedBeforeARequestWasSent) {
  Outcome first, second;
  const BrokerCall served = ask(first);
  turn();
  fake->answer_all();
  turn();
  const BrokerCall call = client->call(
      stream_sockets(Family::V4, 1), -1, [&](const Result<BrokerClient::Sockets>& answer) {
        ASSERT_FALSE(answer);
        EXPECT_TRUE(BrokerClient::is_broker_failure(answer.error())) << answer.error().text();
        second.error = answer.error().code;
      });
  fake->theirs.reset();
  turn();
  EXPECT_EQ(second.error, ECONNRESET);
}

TEST_F(BrokerClientTest, AnAnsweredCallEndsThePauses) {
  fake->refuse_with = ENOENT;
  Outcome failing, good;
  for (int i = 0; i < 5; ++i) {
    const BrokerCall call = ask(failing);
    clock.advance(BrokerClient::kLongestPause);
    turn();
  }
  EXPECT_EQ(failing.error, ENOENT);
  EXPECT_EQ(failing.calls, 5);
  fake->refuse_with = 0;
  clock.advance(BrokerClient::kLongestPause);
  const BrokerCall call = ask(good);
  turn();
  fake->answer_all();
  turn();
  EXPECT_EQ(good.count, 2u);
  fake->theirs.reset();
  turn();
  const BrokerCall again = ask(good);
  clock.advance(BrokerClient::kShortestPause);
  turn();
  EXPECT_EQ(fake->launched, 2);
}

TEST_F(BrokerClientTest, ARefusedJoinFailsTheCallsWithItsError) {
  Outcome outcome;
  const BrokerCall call = ask(outcome);
  turn();
  broker::Reply refusal;
  refusal.id = fake->next_request()->id;
  refusal.error = EPERM;
  refusal.step = broker::Step::JoinUser;
  fake->send(refusal, 0);
  turn();
  EXPECT_EQ(outcome.error, EPERM);
  EXPECT_EQ(fake->discarded, 1);
}

TEST_F(BrokerClientTest, DoesNotCallBackACancelledCall) {
  Outcome cancelled, other;
  BrokerCall first = ask(cancelled);
  turn();
  BrokerCall unsent = ask(cancelled);
  const BrokerCall last = ask(other);
  first = BrokerCall();
  unsent = BrokerCall();
  turn();
  EXPECT_EQ(fake->answer_all(), 2);
  turn();
  EXPECT_EQ(cancelled.calls, 0);
  EXPECT_EQ(other.count, 2u);
}

TEST_F(BrokerClientTest, PermitsReleasingTheLastOwnerInACallback) {
  Outcome outcome;
  BrokerCall call;
  call = client->call(stream_sockets(Family::V4, 1), -1, [&](Result<BrokerClient::Sockets> s) {
    outcome(std::move(s));
    client.reset();
  });
  turn();
  clock.advance(BrokerClient::kDeadline);
  turn();
  EXPECT_EQ(outcome.error, ETIMEDOUT);
  EXPECT_EQ(client, nullptr);
}

TEST_F(BrokerClientTest, PermitsACallInACallback) {
  Outcome second;
  BrokerCall first_call, second_call;
  first_call =
      client->call(stream_sockets(Family::V4, 1), -1,
                   [&](const Result<BrokerClient::Sockets>&) { second_call = ask(second); });
  turn();
  fake->answer_all();
  turn();
  turn();
  EXPECT_EQ(fake->answer_all(), 1);
  turn();
  EXPECT_EQ(second.count, 2u);
}

/// Lowers the soft limit so that `spare` more descriptors can be opened.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(int spare) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const UniqueFd lowest(::fcntl(0, F_DUPFD_CLOEXEC, 0));
    rlimit lowered = before_;
    lowered.rlim_cur = static_cast<rlim_t>(lowest.get() + spare);
    ::setrlimit(RLIMIT_NOFILE, &lowered);
  }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_F(BrokerClientTest, KeepsTheBrokerAtTheDaemonsDescriptorLimit) {
  Outcome outcome, next;
  const BrokerCall call = ask(outcome, 100);
  turn();
  fake->answer_all();
  {
    const DescriptorLimit limit(20);
    turn();
  }
  EXPECT_EQ(outcome.error, EMFILE);
  EXPECT_EQ(fake->discarded, 0);
  const BrokerCall again = ask(next, 100);
  turn();
  fake->answer_all();
  turn();
  EXPECT_EQ(next.count, 100u);
}

}  // namespace
}  // namespace portfwd
