// PathBroker and UnixDialer against a broker that the test plays: what happens to sockets that come
// too late, when a process ends, and how a full backlog is retried.
#include "broker/client/path_broker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <optional>

#include "base/log.h"
#include "relay/unix_dialer.h"
#include "support/fake_broker.h"
#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using broker::Op;
using testing_support::FakeBroker;
using testing_support::ManualClock;

const UnixPath kPath{"/run/s"};
const AbstractName kName{"name"};

UniqueFd own_ns(const char* name) {
  return UniqueFd(::open((std::string("/proc/self/ns/") + name).c_str(), O_RDONLY | O_CLOEXEC));
}

/// A place with namespaces of its own, as far as the fake broker is concerned.
PathPlace container() {
  PathPlace place = PathPlace::of_host().value();
  place.home = broker::Home::Paths;
  place.userns = own_ns("user");
  place.netns = own_ns("net");
  place.netns_userns = own_ns("user");
  return place;
}

struct PathBrokerTest : testing::Test {
  PathBrokerTest() { log::set_level(log::Level::Error); }
  ~PathBrokerTest() override { log::set_level(log::Level::Info); }

  void turn() { ASSERT_TRUE(loop.turn(Duration::zero())); }
  /// The next request after a join, which is answered.
  std::optional<broker::Request> next() {
    turn();
    clock.advance(Duration(1));  // a task of a timer's callback is due then
    turn();
    auto request = fake->next_request();
    if (request && request->op == Op::Join) {
      home = request->home;
      broker::Reply joined;
      joined.id = request->id;
      fake->send(joined, 0);
      turn();
      request = fake->next_request();
    }
    return request;
  }
  void answer(const broker::Request& request, broker::Reply reply = {}) {
    reply.id = request.id;
    if (reply.error == 0 && request.op != Op::UnixRemove) reply.count = 1;
    fake->send(reply, reply.count);
    turn();
  }
  static broker::Reply failure(int error, broker::Step step = broker::Step::Connect) {
    broker::Reply reply;
    reply.error = error;
    reply.step = step;
    return reply;
  }
  static broker::Reply bound() {
    broker::Reply reply;
    reply.bound.file = {7, 8};
    reply.bound.parents = 1;
    reply.bound.made[0] = {7, 9};
    return reply;
  }
  PathBroker::Discard discard() {
    return [this](UniqueFd socket) { discarded.push_back(std::move(socket)); };
  }
  PathCall connect(const Address& address = kPath) {
    return paths->connect(address, {}, [this](std::expected<UniqueFd, PathFailure> result) {
      ++answers;
      error = result ? 0 : result.error().error.code;
      if (!result) found = result.error().found;
    });
  }

  ManualClock clock;
  EventLoop loop{clock};
  std::shared_ptr<FakeBroker> fake = std::make_shared<FakeBroker>();
  std::vector<UniqueFd> discarded;
  std::optional<PathBroker> paths{std::in_place, loop, fake, container(), discard()};
  int answers = 0;
  int error = 0;
  broker::FileKind found{};
  broker::Home home{};
};

TEST_F(PathBrokerTest, ConnectsWithABrokerForPaths) {
  const auto call = connect();
  EXPECT_EQ(fake->launched, 0) << "not before the loop runs";
  const auto request = next();
  ASSERT_TRUE(request);
  EXPECT_EQ(home, broker::Home::Paths);
  EXPECT_EQ(request->op, Op::UnixConnect);
  EXPECT_STREQ(request->path, "/run/s");
  answer(*request);
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(error, 0);
  EXPECT_TRUE(discarded.empty());
}

TEST_F(PathBrokerTest, PassesOnTheKindOfAFileThatIsInTheWay) {
  const auto call = connect();
  const auto request = next();
  broker::Reply reply = failure(ENOTSOCK);
  reply.found = broker::FileKind::Fifo;
  answer(*request, reply);
  EXPECT_EQ(error, ENOTSOCK);
  EXPECT_EQ(found, broker::FileKind::Fifo);
}

TEST_F(PathBrokerTest, AnswersAnInvalidRequestLater) {
  const auto call = connect(UnixPath{"relative"});
  EXPECT_EQ(answers, 0);
  turn();
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(error, EINVAL);
  EXPECT_EQ(fake->launched, 0);
}

TEST_F(PathBrokerTest, NeverAnswersARequestThatWasCancelled) {
  { const auto call = connect(UnixPath{"relative"}); }
  turn();
  EXPECT_EQ(answers, 0);
}

TEST_F(PathBrokerTest, DiscardsASocketThatComesTooLate) {
  auto call = connect();
  const auto request = next();
  call = {};
  answer(*request);
  EXPECT_EQ(answers, 0);
  EXPECT_EQ(discarded.size(), 1u);
}

TEST_F(PathBrokerTest, RemovesAPathThatIsBoundTooLate) {
  auto call = paths->listen(kPath, {}, [&](auto) { ++answers; });
  const auto request = next();
  call = {};
  answer(*request, bound());
  const auto removal = next();
  ASSERT_TRUE(removal);
  EXPECT_EQ(removal->op, Op::UnixRemove);
  EXPECT_STREQ(removal->path, "/run/s");
  EXPECT_EQ(removal->bound, bound().bound);
  EXPECT_TRUE(discarded.empty()) << "its inode number must not be used for another file";
  answer(*removal);
  EXPECT_EQ(discarded.size(), 1u);
  EXPECT_EQ(answers, 0);
}

TEST_F(PathBrokerTest, ReportsWhatItHasBound) {
  std::optional<BoundUnixSocket> result;
  const auto call = paths->listen(kPath, {}, [&](std::expected<BoundUnixSocket, PathFailure> made) {
    if (made) result = std::move(*made);
  });
  answer(*next(), bound());
  ASSERT_TRUE(result);
  EXPECT_TRUE(result->socket.valid());
  EXPECT_EQ(result->bound.path, kPath);
  EXPECT_EQ(result->bound.made, bound().bound);
}

TEST_F(PathBrokerTest, ReportsTheFailureOfARemoval) {
  int removed = -1;
  paths->remove({kPath, bound().bound}, {}, [&](std::expected<void, PathFailure> result) {
    removed = result ? 0 : result.error().error.code;
  });
  answer(*next(), failure(ESTALE, broker::Step::Unlink));
  EXPECT_EQ(removed, ESTALE);
}

TEST_F(PathBrokerTest, UsesABrokerOfItsOwnForNamesOfAnotherNamespace) {
  const auto first = connect(kPath);
  answer(*next());
  const auto second = connect(kName);
  const auto request = next();
  ASSERT_TRUE(request);
  EXPECT_EQ(home, broker::Home::Names);
  EXPECT_EQ(request->name_size, 4u);
  EXPECT_EQ(fake->launched, 2);
  EXPECT_EQ(paths->pids().size(), 0u) << "the fake ones have no pid";
}

TEST_F(PathBrokerTest, UsesOneBrokerForPathsAndNamesOfTheHost) {
  paths.emplace(loop, fake, PathPlace::of_host().value());
  const auto first = connect(kPath);
  answer(*next());
  EXPECT_EQ(home, broker::Home::HostPaths);
  const auto second = connect(kName);
  answer(*next());
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(fake->launched, 1);
}

/// As for a container that only a helper can enter.
TEST_F(PathBrokerTest, ReachesOnlyNamesWithoutARoot) {
  PathPlace place;
  place.home = broker::Home::Here;
  paths.emplace(loop, fake, std::move(place));
  const auto path = connect(kPath);
  turn();
  EXPECT_EQ(error, EOPNOTSUPP);
  const auto name = connect(kName);
  answer(*next());
  EXPECT_EQ(home, broker::Home::Here);
  EXPECT_EQ(error, 0);
}

TEST_F(PathBrokerTest, EndsItsProcessWhenItIsNotUsed) {
  const auto call = connect();
  const auto request = next();
  clock.advance(BrokerClient::kDeadline / 2);
  turn();
  answer(*request);
  clock.advance(PathBroker::kIdle - 1ms);
  turn();
  EXPECT_EQ(fake->discarded, 0);
  clock.advance(1ms);
  turn();
  EXPECT_EQ(fake->discarded, 1);
  EXPECT_TRUE(discarded.empty()) << "nothing was expected from it";
  const auto again = connect();
  answer(*next());
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(fake->launched, 2);
}

TEST_F(PathBrokerTest, NeverClosesARepliesSocketWhenTheProcessIsKilled) {
  const auto call = connect();
  (void)next();
  clock.advance(BrokerClient::kDeadline);
  turn();
  EXPECT_EQ(error, ETIMEDOUT);
  EXPECT_EQ(fake->discarded, 1);
  EXPECT_EQ(discarded.size(), 1u) << "the daemon's end, in which a reply may wait";
}

TEST_F(PathBrokerTest, NeverClosesARepliesSocketWhenItIsDestroyed) {
  const auto call = connect();
  (void)next();
  paths.reset();
  EXPECT_EQ(discarded.size(), 1u);
  EXPECT_EQ(answers, 0);
}

TEST_F(PathBrokerTest, ContinuesWithItsBrokerInTheSameUserNamespace) {
  const auto first = connect();
  const auto request = next();
  paths->move_to(container());
  answer(*request);
  EXPECT_EQ(answers, 1);
  const auto second = connect();
  answer(*next());
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(fake->launched, 1);
}

TEST_F(PathBrokerTest, StartsAnotherBrokerInAnotherUserNamespace) {
  const auto first = connect();
  const auto request = next();
  PathPlace other = container();
  other.userns = own_ns("mnt");  // any other namespace will do
  paths->move_to(std::move(other));
  answer(*request);
  EXPECT_EQ(answers, 1) << "what is in progress is completed";
  const auto second = connect();
  answer(*next());
  EXPECT_EQ(answers, 2);
  EXPECT_EQ(fake->launched, 2);
}

struct UnixDialerTest : PathBrokerTest, DialHandler {
  void on_dialled(Result<UniqueFd> connected) override {
    ++answers;
    error = connected ? 0 : connected.error().code;
    loop.retire(std::move(attempt));
  }
  void dial(std::vector<Address> candidates, Duration limit = 1s) {
    auto start = dialer.dial(candidates, clock.now() + limit, *this);
    EXPECT_FALSE(start.connected.valid());
    attempt = std::move(start.attempt);
  }
  UnixDialer dialer{loop, *paths};
  std::unique_ptr<Dial> attempt;
};

TEST_F(UnixDialerTest, TriesTheNextCandidateAfterAFailure) {
  dial({UnixPath{"/a"}, UnixPath{"/b"}});
  answer(*next(), failure(ENOENT, broker::Step::OpenPath));
  const auto second = next();
  ASSERT_TRUE(second);
  EXPECT_STREQ(second->path, "/b");
  answer(*second);
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(error, 0);
}

TEST_F(UnixDialerTest, ReportsTheErrorOfTheLastCandidate) {
  dial({UnixPath{"/a"}, UnixPath{"/b"}});
  answer(*next(), failure(ENOENT, broker::Step::OpenPath));
  answer(*next(), failure(ECONNREFUSED));
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(error, ECONNREFUSED);
}

TEST_F(UnixDialerTest, RetriesAFullBacklogEverMoreSlowly) {
  dial({kPath}, 10s);
  for (const Duration pause : {5ms, 10ms, 20ms, 40ms, 80ms, 100ms, 100ms}) {
    const auto request = next();
    ASSERT_TRUE(request);
    answer(*request, failure(EAGAIN));
    clock.advance(pause - 1ms);
    EXPECT_FALSE(next());
    clock.advance(1ms);
  }
  answer(*next());
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(error, 0);
}

TEST_F(UnixDialerTest, EndsAtTheDeadline) {
  dial({kPath}, 7ms);
  answer(*next(), failure(EAGAIN));
  clock.advance(5ms);
  const auto request = next();
  ASSERT_TRUE(request);
  clock.advance(2ms);
  turn();
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(error, ETIMEDOUT);
  answer(*request);
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(discarded.size(), 1u) << "connected too late";
}

TEST_F(UnixDialerTest, IsCancelledByItsDestruction) {
  dial({kPath});
  const auto request = next();
  attempt.reset();
  answer(*request);
  clock.advance(2s);
  turn();
  EXPECT_EQ(answers, 0);
  EXPECT_EQ(discarded.size(), 1u);
}

}  // namespace
}  // namespace portfwd
