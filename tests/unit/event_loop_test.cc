// EventLoop: the lifetime rule and timers, with real descriptors.
#include "event/event_loop.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <functional>
#include <vector>

#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::ManualClock;

struct SocketPair {
  SocketPair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
    ours = UniqueFd(fds[0]);
    theirs = UniqueFd(fds[1]);
  }
  void make_readable() const { EXPECT_EQ(::write(theirs.get(), "x", 1), 1); }
  UniqueFd ours, theirs;
};

struct Probe final : IoHandler {
  Probe(EventLoop& loop, int fd) : source(loop, fd, *this) {}
  void on_io(IoSource&, std::uint32_t events) override {
    ++calls;
    last = events;
    if (then) then();
  }
  int calls = 0;
  std::uint32_t last = 0;
  std::move_only_function<void()> then;
  IoSource source;
};

struct LoopTest : testing::Test {
  SystemClock clock;
  EventLoop loop{clock};
};

/// Such as an inotify descriptor that could not be opened.
TEST_F(LoopTest, WatchingNoDescriptorIsAFailure) {
  struct Nobody final : IoHandler {
    void on_io(IoSource&, std::uint32_t) override { ADD_FAILURE(); }
  } nobody;
  IoSource source(loop, -1, nobody);
  const auto watched = source.watch(EPOLLIN);
  ASSERT_FALSE(watched);
  EXPECT_EQ(watched.error().code, EBADF);
  source.disarm();
}

TEST_F(LoopTest, TwoHandlersOfOneBatchMayDestroyEachOther) {
  SocketPair a, b;
  a.make_readable();
  b.make_readable();
  std::unique_ptr<Probe> first, second;
  first = std::make_unique<Probe>(loop, a.ours.get());
  second = std::make_unique<Probe>(loop, b.ours.get());
  int called = 0;
  first->then = [&] { ++called, second.reset(); };
  second->then = [&] { ++called, first.reset(); };
  ASSERT_TRUE(first->source.watch(EPOLLIN));
  ASSERT_TRUE(second->source.watch(EPOLLIN));
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_EQ(called, 1) << "the other one's event must be gone from the batch";
}

/// A hook that takes 3 ms before each wait.
struct SlowHook final : WaitHook {
  explicit SlowHook(ManualClock& its_clock) : clock(its_clock) {}
  void before_wait() override { clock.advance(3ms); }
  ManualClock& clock;
};

TEST(LoopTurnTest, TheLongestLastsFromOneWaitToTheNext) {
  ManualClock clock;
  EventLoop loop(clock);
  SlowHook hook(clock);
  loop.add_hook(hook);
  Timer timer(loop, [&] { clock.advance(5ms); });
  timer.arm_now();
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_EQ(loop.longest_turn(), 0s) << "no wait has followed yet";
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_EQ(loop.longest_turn(), 8ms);
  EXPECT_NE(loop.longest_turn_in().find("TheLongestLasts"), std::string::npos)
      << loop.longest_turn_in();
  loop.remove_hook(hook);
}

TEST(LoopTurnTest, ASlowOneIsLoggedWithWhatTookLongest) {
  ManualClock clock;
  EventLoop loop(clock);
  SlowHook hook(clock);
  loop.add_hook(hook);
  Duration slow = 250ms;
  Timer timer(loop, [&] {
    clock.advance(slow);
    timer.arm_now();
  });
  const auto lines_of_turns = [&](int turns) {
    testing::internal::CaptureStderr();
    for (int i = 0; i < turns; ++i) EXPECT_TRUE(loop.turn(0s));
    return testing::internal::GetCapturedStderr();
  };
  timer.arm_now();
  slow = 240ms;
  EXPECT_EQ(lines_of_turns(4), "") << "within the limit";
  slow = 260ms;
  const std::string said = lines_of_turns(2);
  EXPECT_NE(said.find("a turn took 263 ms, 260 ms of it in a timer of"), std::string::npos) << said;
  EXPECT_NE(said.find("ASlowOneIsLogged"), std::string::npos) << said;
  EXPECT_EQ(lines_of_turns(3), "") << "at most one line in ten seconds";
  const std::string later = lines_of_turns(60);
  EXPECT_NE(later.find("more since the last such line"), std::string::npos) << later;
  loop.remove_hook(hook);
}

TEST_F(LoopTest, NamesTheHandlerThatTookLongest) {
  SocketPair pair;
  Probe probe(loop, pair.ours.get());
  ASSERT_TRUE(probe.source.watch(EPOLLIN));
  ASSERT_EQ(::write(pair.theirs.get(), "x", 1), 1);
  ASSERT_TRUE(loop.turn(1s));
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_EQ(loop.longest_turn_in(), "Probe");
}

struct OwnerOfATimer {
  OwnerOfATimer(ManualClock& clock, EventLoop& loop)
      : timer(loop, [&clock] { clock.advance(9ms); }) {}
  Timer timer;
};

TEST(LoopTurnTest, NamesTheClassThatOwnsTheTimerThatTookLongest) {
  ManualClock clock;
  EventLoop loop(clock);
  OwnerOfATimer owner(clock, loop);
  owner.timer.arm_now();
  ASSERT_TRUE(loop.turn(0s));
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_EQ(loop.longest_turn_in(), "a timer of OwnerOfATimer");
}

TEST_F(LoopTest, AnEmptyMaskDeregistersSoThatHangUpDoesNotSpin) {
  SocketPair pair;
  Probe probe(loop, pair.ours.get());
  ASSERT_TRUE(probe.source.watch(EPOLLIN));
  ASSERT_TRUE(probe.source.watch(0));
  pair.theirs.reset();
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_EQ(probe.calls, 0);
}

TEST_F(LoopTest, DropsTheEventOfASourceThatWasClosedInTheBatch) {
  SocketPair a, b;
  a.make_readable();
  b.make_readable();
  Probe first(loop, a.ours.get()), second(loop, b.ours.get());
  int called = 0;
  first.then = [&] { ++called, first.source.close(a.ours), second.source.close(b.ours); };
  second.then = [&] { ++called, first.source.close(a.ours), second.source.close(b.ours); };
  ASSERT_TRUE(first.source.watch(EPOLLIN));
  ASSERT_TRUE(second.source.watch(EPOLLIN));
  ASSERT_TRUE(loop.turn(1s));
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_EQ(called, 1);
  EXPECT_FALSE(a.ours.valid() || b.ours.valid());
  EXPECT_EQ(first.source.mask(), 0U);
}

/// A duplicate descriptor keeps the open file, and with it the registration. The next source gets
/// the entry that the closed one had.
TEST_F(LoopTest, DropsEventsOfARegistrationThatOutlivesItsSource) {
  SocketPair kept, other;
  const UniqueFd copy(::dup(kept.ours.get()));
  Probe closed(loop, kept.ours.get());
  ASSERT_TRUE(closed.source.watch(EPOLLIN));
  closed.source.close(kept.ours);
  Probe next(loop, other.ours.get());
  ASSERT_TRUE(next.source.watch(EPOLLIN));
  kept.make_readable();
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_EQ(closed.calls + next.calls, 0);
  other.make_readable();
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_EQ(next.calls, 1);
}

/// As above, with an entry that was freed and made again.
TEST_F(LoopTest, DropsEventsOfARegistrationWhoseEntryWasReleased) {
  SocketPair kept, other;
  const UniqueFd copy(::dup(kept.ours.get()));
  Probe closed(loop, kept.ours.get());
  ASSERT_TRUE(closed.source.watch(EPOLLIN));
  closed.source.close(kept.ours);
  loop.release_memory();
  kept.make_readable();
  ASSERT_TRUE(loop.turn(1s));
  Probe next(loop, other.ours.get());
  ASSERT_TRUE(next.source.watch(EPOLLIN));
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_EQ(closed.calls + next.calls, 0);
  other.make_readable();
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_EQ(next.calls, 1);
}

TEST_F(LoopTest, KeepsSourcesApartWhenItReleasesMemory) {
  std::array<SocketPair, 8> pairs;
  std::vector<std::unique_ptr<Probe>> probes;
  for (const SocketPair& pair : pairs) {
    probes.push_back(std::make_unique<Probe>(loop, pair.ours.get()));
    ASSERT_TRUE(probes.back()->source.watch(EPOLLIN));
  }
  for (const std::size_t gone : {2U, 7U, 0U, 6U}) probes[gone]->source.disarm();
  loop.release_memory();
  for (const std::size_t back : {6U, 0U, 2U, 7U}) {
    ASSERT_TRUE(probes[back]->source.watch(EPOLLIN));
    loop.release_memory();
  }
  for (const SocketPair& pair : pairs) pair.make_readable();
  ASSERT_TRUE(loop.turn(1s));
  for (const auto& probe : probes) EXPECT_EQ(probe->calls, 1);
}

TEST_F(LoopTest, KeepsSourcesApartThatComeAndGo) {
  std::array<SocketPair, 8> pairs;
  std::vector<std::unique_ptr<Probe>> probes;
  for (const SocketPair& pair : pairs) {
    probes.push_back(std::make_unique<Probe>(loop, pair.ours.get()));
    ASSERT_TRUE(probes.back()->source.watch(EPOLLIN));
  }
  for (const std::size_t gone : {1U, 6U, 3U}) probes[gone]->source.disarm();
  for (const std::size_t back : {3U, 1U}) ASSERT_TRUE(probes[back]->source.watch(EPOLLIN));
  for (const SocketPair& pair : pairs) pair.make_readable();
  ASSERT_TRUE(loop.turn(1s));
  for (std::size_t i = 0; i < probes.size(); ++i) EXPECT_EQ(probes[i]->calls, i == 6 ? 0 : 1) << i;
}

TEST_F(LoopTest, CountsItsTurns) {
  EXPECT_EQ(loop.turns(), 0U);
  ASSERT_TRUE(loop.turn(0s));
  std::uint64_t in_timer = 0;
  Timer timer(loop, [&] { in_timer = loop.turns(); });
  timer.arm_now();
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_EQ(in_timer, 2U);
}

TEST_F(LoopTest, IsSaturatedWhileATurnTakesAsManyEventsAsItCan) {
  std::array<SocketPair, 70> pairs;
  std::vector<std::unique_ptr<Probe>> probes;
  for (const SocketPair& pair : pairs) {
    pair.make_readable();
    probes.push_back(std::make_unique<Probe>(loop, pair.ours.get()));
    ASSERT_TRUE(probes.back()->source.watch(EPOLLIN));
  }
  bool saturated = false;
  probes.front()->then = [&] { saturated = loop.is_saturated(); };
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_TRUE(saturated);
  for (const auto& probe : probes) probe->source.disarm();
  ASSERT_TRUE(loop.turn(0s));
  EXPECT_FALSE(loop.is_saturated());
}

TEST_F(LoopTest, ARetiredObjectOutlivesItsOwnHandler) {
  struct Owner final : Retirable, IoHandler {
    Owner(EventLoop& l, int fd, bool& d) : source(l, fd, *this), dead(d) {}
    ~Owner() override { dead = true; }
    void on_io(IoSource&, std::uint32_t) override {
      source.disarm();
      loop->retire(std::move(self));
      EXPECT_FALSE(dead);
    }
    IoSource source;
    bool& dead;
    EventLoop* loop = nullptr;
    std::unique_ptr<Owner> self;
  };
  SocketPair pair;
  pair.make_readable();
  bool dead = false;
  auto owner = std::make_unique<Owner>(loop, pair.ours.get(), dead);
  owner->loop = &loop;
  ASSERT_TRUE(owner->source.watch(EPOLLIN));
  Owner& raw = *owner;
  raw.self = std::move(owner);
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_TRUE(dead);
}

TEST_F(LoopTest, TimersFireInOrderOfTheirDeadlines) {
  std::vector<int> order;
  Timer late(loop, [&] { order.push_back(2), loop.stop(); });
  Timer early(loop, [&] { order.push_back(1); });
  late.arm_after(2ms);
  early.arm_after(1ms);
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(order, (std::vector{1, 2}));
}

TEST_F(LoopTest, ATimerThatArmsItselfForNowDoesNotStarveSockets) {
  SocketPair pair;
  Probe probe(loop, pair.ours.get());
  probe.then = [&] { loop.stop(); };
  ASSERT_TRUE(probe.source.watch(EPOLLIN));
  Timer* self = nullptr;
  Timer busy(loop, [&] { self->arm_now(); });
  self = &busy;
  busy.arm_now();
  pair.make_readable();
  ASSERT_TRUE(loop.run());
  EXPECT_EQ(probe.calls, 1);
}

TEST_F(LoopTest, ATimerMayDestroyASourceWhoseEventHasCome) {
  SocketPair pair;
  auto probe = std::make_unique<Probe>(loop, pair.ours.get());
  ASSERT_TRUE(probe->source.watch(EPOLLIN));
  probe->then = [] { ADD_FAILURE() << "called after its end"; };
  Timer timer(loop, [&] { probe.reset(); });
  timer.arm_now();
  pair.make_readable();
  ASSERT_TRUE(loop.turn(1s));
  EXPECT_EQ(probe, nullptr);
}

TEST_F(LoopTest, ATimerMayDestroyAnotherThatIsDueToo) {
  int fired = 0;
  std::unique_ptr<Timer> a, b;
  a = std::make_unique<Timer>(loop, [&] { ++fired, b.reset(); });
  b = std::make_unique<Timer>(loop, [&] { ++fired, a.reset(); });
  a->arm_now();
  b->arm_now();
  ASSERT_TRUE(loop.turn(10ms));
  ASSERT_TRUE(loop.turn(1ms));
  EXPECT_EQ(fired, 1);
}

/// Runs `holds` in a child process for which epoll_pwait2 fails with ENOSYS.
/// @return its exit status
int run_without_pwait2(const std::function<bool()>& holds) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::array<sock_filter, 4> program{
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
         BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_pwait2, 0, 1),
         BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
         BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
    const sock_fprog filter{program.size(), program.data()};
    const bool set = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                     ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
    ::_exit(set && ::syscall(SYS_epoll_pwait2, -1) < 0 && errno == ENOSYS ? (holds() ? 0 : 1) : 2);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(LoopWithoutPwait2, ServesSocketsAndTimersInTheirOrder) {
  EXPECT_EQ(run_without_pwait2([] {
              const SystemClock clock;
              EventLoop loop(clock);
              SocketPair pair;
              Probe probe(loop, pair.ours.get());
              bool ok = static_cast<bool>(probe.source.watch(EPOLLIN));
              pair.make_readable();
              ok = ok && loop.turn(Duration::max()) && probe.calls == 1;
              probe.source.disarm();
              std::vector<int> fired;
              Timer second(loop, [&] { fired.push_back(2), loop.stop(); });
              Timer first(loop, [&] { fired.push_back(1); });
              second.arm_after(1500us);
              first.arm_after(300us);
              return ok && loop.run() && fired == std::vector{1, 2};
            }),
            0);
}

/// 300 us are rounded up to a wait of 1 ms, so that one turn is enough.
TEST(LoopWithoutPwait2, DoesNotSpinUntilATimerIsDue) {
  EXPECT_EQ(run_without_pwait2([] {
              const SystemClock clock;
              EventLoop loop(clock);
              bool fired = false;
              Timer timer(loop, [&] { fired = true; });
              timer.arm_after(300us);
              return loop.turn(Duration::max()) && fired;
            }),
            0);
}

}  // namespace
}  // namespace portfwd
