// Facts of processes, and the names of the programs behind listeners.
#include "access/process_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "support/manual_clock.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using testing::ElementsAre;
using testing::IsEmpty;
using testing_support::ManualClock;

TEST(ProcessFacts, JoinTheArgumentsBySpaces) {
  EXPECT_EQ(command_text("node\0/app/vite\0--port\0"
                         "5173\0"s),
            "node /app/vite --port 5173");
  EXPECT_EQ(command_text("postgres: writer process\0\0\0"s), "postgres: writer process")
      << "a title may be followed by NULs";
  EXPECT_EQ(command_text(""), "");
}

TEST(ProcessFacts, ReadAnOptOutFromAWholeVariableOnly) {
  const auto opted_out = [](std::string_view environ) {
    return parse_process_facts("node\0"s, environ, "host").opted_out;
  };
  EXPECT_TRUE(opted_out("A=" + std::string(20000, 'x') + "\0PORTFWD=off\0"s));
  EXPECT_FALSE(opted_out("PORTFWD=offline\0XPORTFWD=off\0"s));
  EXPECT_FALSE(opted_out(""));
}

/// As with redis and nginx: the title extends over the former environment and is followed by NULs.
TEST(ProcessFacts, KeepFactsWhenATitleOverwritesTheEnvironment) {
  const auto before =
      parse_process_facts("redis-server\0"s, "PORTFWD=off\0HOSTNAME=box\0"s, "host");
  EXPECT_FALSE(before.environment_lost);
  for (const std::string& over : {" *:6379\0\0\0"s, "\0\0\0\0"s, "ss /usr/sbin/nginx\0\0"s}) {
    const auto now = parse_process_facts("redis-server *:6379\0"s, over, "host", before);
    EXPECT_TRUE(now.opted_out);
    EXPECT_EQ(now.by_environment.name, "box");
    EXPECT_EQ(now.command, "redis-server *:6379");
    EXPECT_FALSE(now.environment_lost);
    EXPECT_TRUE(parse_process_facts("redis-server\0"s, over, "host").environment_lost);
  }
}

TEST(ProcessFacts, AreReadAgainAfterAnExec) {
  const auto before = parse_process_facts("sh\0"s, "PORTFWD=off\0"s, "host");
  EXPECT_FALSE(parse_process_facts("node\0"s, "A=b\0"s, "host", before).opted_out);
}

/// Answers when the test requests it.
struct SlowNames final : ProcessNames {
  Search find(std::uint64_t, std::vector<std::uint32_t> inodes, Done done) override {
    asked = std::move(inodes);
    answer = std::move(done);
    return std::make_shared<int>();
  }
  void say(Programs programs) {
    Done done = std::exchange(answer, nullptr);
    done(std::move(programs));
  }
  std::vector<std::uint32_t> asked;
  Done answer;
};

struct ListenerNamesTest : testing::Test {
  static Listener listener(Port port, std::uint32_t inode) {
    Listener l;
    l.local = {IpAddress::loopback(Family::V4), port};
    l.cookie = l.inode = inode;
    return l;
  }
  std::vector<Port> shown(const std::vector<Listener>& now) {
    last = names.name(now);
    std::vector<Port> ports;
    for (const Listener& l : last) ports.push_back(l.local.ip().port);
    return ports;
  }
  void pass(Duration time) {
    clock.advance(time);
    EXPECT_TRUE(loop.turn(0ms));
  }

  ManualClock clock;
  EventLoop loop{clock};
  SlowNames source;
  int changes = 0;
  std::vector<Listener> last;
  ListenerNames names{loop, source, 7, [this] { ++changes; }};
};

TEST_F(ListenerNamesTest, HoldsANewListenerBackUntilItsProgramIsKnown) {
  EXPECT_THAT(shown({listener(80, 1)}), IsEmpty());
  pass(0ms);
  EXPECT_THAT(source.asked, ElementsAre(1));
  source.say({{1, {::getpid(), "nginx", "nginx -g", true}}});
  EXPECT_EQ(changes, 1);
  EXPECT_THAT(shown({listener(80, 1)}), ElementsAre(80));
  EXPECT_EQ(last[0].process, "nginx");
  EXPECT_EQ(last[0].command, "nginx -g");
  EXPECT_TRUE(last[0].opted_out);
}

/// So that a Unix socket, whose cgroup the kernel does not show, belongs to the right container.
TEST_F(ListenerNamesTest, FillsInTheCgroupOfTheProgramWhereThatOfTheSocketIsNotKnown) {
  Listener known = listener(81, 2);
  known.cgroup_id = 5;
  static_cast<void>(names.name({listener(80, 1), known}));
  pass(0ms);
  source.say({{1, {.pid = ::getpid(), .cgroup_id = 7}}, {2, {.pid = ::getpid(), .cgroup_id = 7}}});
  const auto shown = names.name({listener(80, 1), known});
  ASSERT_EQ(shown.size(), 2U);
  EXPECT_EQ(shown[0].cgroup_id, 7U);
  EXPECT_EQ(shown[1].cgroup_id, 5U);
}

TEST_F(ListenerNamesTest, ShowsAListenerWhoseProgramIsNotFoundInTime) {
  EXPECT_THAT(shown({listener(80, 1)}), IsEmpty());
  pass(0ms);
  pass(ListenerNames::kLongestWait);
  EXPECT_EQ(changes, 1);
  EXPECT_THAT(shown({listener(80, 1)}), ElementsAre(80));
  source.say({{1, {::getpid(), "late", "", true}}});
  EXPECT_EQ(changes, 2);
  EXPECT_THAT(shown({listener(80, 1)}), ElementsAre(80));
  EXPECT_TRUE(last[0].opted_out);
}

TEST_F(ListenerNamesTest, RetriesASearchThatFailed) {
  EXPECT_THAT(shown({listener(80, 1)}), IsEmpty());
  pass(0ms);
  source.say({});
  source.asked.clear();
  pass(ListenerNames::kFirstPause);
  EXPECT_THAT(source.asked, ElementsAre(1)) << "a failed search is not final";
}

TEST_F(ListenerNamesTest, RequestsEachSocketOnce) {
  EXPECT_THAT(shown({listener(80, 1)}), IsEmpty());
  pass(0ms);
  source.say({{1, {::getpid(), "nginx", "", false}}});
  EXPECT_THAT(shown({listener(80, 1), listener(81, 2)}), ElementsAre(80));
  pass(0ms);
  EXPECT_THAT(source.asked, ElementsAre(2));
  source.say({{2, {::getpid(), "redis", "", false}}});
  EXPECT_THAT(shown({listener(80, 3), listener(81, 2)}), ElementsAre(81)) << "80 is another socket";
}

TEST_F(ListenerNamesTest, SearchesAgainWhenTheFoundProcessExits) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (;;) ::pause();
  }
  EXPECT_THAT(shown({listener(80, 1)}), IsEmpty());
  pass(0ms);
  source.say({{1, {child, "parent", "", false}}});
  EXPECT_THAT(shown({listener(80, 1)}), ElementsAre(80));
  source.asked.clear();
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(loop.turn(20s));
  pass(ListenerNames::kLongestWait);
  EXPECT_THAT(source.asked, ElementsAre(1));
  EXPECT_THAT(shown({listener(80, 1)}), ElementsAre(80));
  EXPECT_EQ(last[0].process, "parent") << "until the other one is found";
  source.say({{1, {::getpid(), "worker", "", false}}});
  EXPECT_THAT(shown({listener(80, 1)}), ElementsAre(80));
  EXPECT_EQ(last[0].process, "worker");
}

}  // namespace
}  // namespace portfwd
