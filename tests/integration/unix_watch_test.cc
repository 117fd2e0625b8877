// A port watch on a new namespace with Unix sockets, and what each kind of access says about them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <string>
#include <vector>

#include "support/access_fixture.h"
#include "support/box.h"
#include "support/temp_dir.h"
#include "support/watched_netns.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

struct UnixWatchTest : PortWatchTest {
  explicit UnixWatchTest(bool unix_diag = true) : PortWatchTest(true, true, unix_diag) {}
  /// Turns the loop for some time.
  void pass(Duration time) {
    for (const TimePoint end = loop.now() + time; loop.now() < end;) {
      ASSERT_TRUE(loop.turn(20ms));
    }
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return folder.path() + "/" + name;
  }
  TempDir folder;
};

TEST_F(UnixWatchTest, FindsListenersOfANamespaceInWhichOnlyUnixSocketsAreUsed) {
  Watched c(shared);
  const UniqueFd stream = c.ns.listen_unix(UnixPath{path("app")}, SOCK_STREAM, 5);
  const UniqueFd records = c.ns.listen_unix(AbstractName{"app"}, SOCK_SEQPACKET);
  ASSERT_TRUE(c.until_listeners(2));
  EXPECT_THAT(c.names(), ElementsAre(path("app"), "@app"));
  const Listener& first = c.watch.listeners()[0];
  EXPECT_EQ(first.target(), Target(UnixPath{path("app")}));
  EXPECT_EQ(first.protocol, Protocol::Unix);
  EXPECT_EQ(first.type, SocketType::Stream);
  EXPECT_EQ(first.backlog, 5U);
  EXPECT_EQ(first.cookie, *socket_cookie(stream.get()));
  EXPECT_NE(first.file_inode, 0U);
  EXPECT_EQ(c.watch.listeners()[1].type, SocketType::Seqpacket);
}

TEST_F(UnixWatchTest, ReportsANewListenerAndACloseSoon) {
  Watched c(shared);
  const UniqueFd first = c.ns.listen_unix(AbstractName{"first"});
  ASSERT_TRUE(c.until_listeners(1));
  UniqueFd second = c.ns.listen_unix(AbstractName{"second"});
  const TimePoint opened = loop.now();
  ASSERT_TRUE(c.until_listeners(2));
  EXPECT_LT(loop.now() - opened, 150ms);
  const TimePoint closed = loop.now();
  second.reset();
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_LT(loop.now() - closed, 150ms);
}

TEST_F(UnixWatchTest, StaysDormantWhileNoUnixSocketListens) {
  Watched c(shared);
  ASSERT_TRUE(c.until([&] { return c.watch.initial_scan_done(); }));
  const UniqueFd client = c.ns.socket(AF_UNIX, SOCK_STREAM);
  const UniqueFd bound = c.ns.socket(AF_UNIX, SOCK_STREAM);
  TestNetns::bind_unix(bound, AbstractName{"app"});
  pass(1s);
  EXPECT_EQ(c.asked, 0) << "a broker would be started for it";
  EXPECT_TRUE(c.watch.dormant());
  ASSERT_EQ(::listen(bound.get(), 1), 0);
  EXPECT_TRUE(c.until_listeners(1)) << "the counters have not changed since";
}

TEST_F(UnixWatchTest, FindsASocketThatListensLaterThanItIsMade) {
  Watched c(shared);
  const UniqueFd first = c.ns.listen_unix(AbstractName{"first"});
  ASSERT_TRUE(c.until_listeners(1));
  const UniqueFd late = c.ns.socket(AF_UNIX, SOCK_STREAM);
  TestNetns::bind_unix(late, AbstractName{"late"});
  pass(300ms);
  ASSERT_THAT(c.watch.listeners(), SizeIs(1));
  ASSERT_EQ(::listen(late.get(), 1), 0);
  EXPECT_TRUE(c.until_listeners(2));
}

TEST_F(UnixWatchTest, DumpsRarelyWhileNothingChanges) {
  Watched c(shared);
  const UniqueFd listening = c.ns.listen_unix(AbstractName{"app"});
  ASSERT_TRUE(c.until_listeners(1));
  pass(200ms);
  const auto before = c.watch.dumps();
  pass(3s);
  EXPECT_LE(c.watch.dumps() - before, 4U);
  EXPECT_GE(c.watch.dumps() - before, 1U);
}

TEST_F(UnixWatchTest, KeepsPortsAndUnixSocketsApart) {
  Watched c(shared);
  UniqueFd port = c.ns.listen({kLoopback4, 0});
  UniqueFd name = c.ns.listen_unix(AbstractName{"app"});
  ASSERT_TRUE(c.until_listeners(2));
  port.reset();
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_THAT(c.names(), ElementsAre("@app"));
  port = c.ns.listen({kLoopback4, 20080});
  ASSERT_TRUE(c.until_listeners(2));
  name.reset();
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_THAT(c.names(), ElementsAre("127.0.0.1:20080"));
  port.reset();
  EXPECT_TRUE(c.until_listeners(0));
}

/// A program can make any number of Unix sockets, and a dump walks them all.
TEST_F(UnixWatchTest, EvidenceDumpsOnlyPortsBeyondTheBudget) {
  Watched c(shared);
  const UniqueFd port = c.ns.listen({kLoopback4, 20080});
  UniqueFd name = c.ns.listen_unix(AbstractName{"app"});
  ASSERT_TRUE(c.until_listeners(2));
  Settings::Detect never;
  never.interval = 1h;
  never.cpu_budget = 0.001;
  pace.configure(never);
  ::shutdown(port.get(), SHUT_RDWR);  // causes no event
  name.reset();
  c.watch.poll_now();
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_THAT(c.names(), ElementsAre("@app"));
  pace.configure(Settings::Detect{});
  EXPECT_TRUE(c.until_listeners(0));
}

TEST_F(UnixWatchTest, IgnoresSocketsOfTheDaemon) {
  Watched c(shared);
  const UniqueFd other = c.ns.listen_unix(AbstractName{"other"});
  ASSERT_TRUE(c.until_listeners(1));
  const UniqueFd own = c.ns.socket(AF_UNIX, SOCK_STREAM);
  c.watch.ignore(*socket_inode(own.get()));
  TestNetns::bind_unix(own, AbstractName{"own"});
  ASSERT_EQ(::listen(own.get(), 1), 0);
  pass(300ms);
  c.watch.poll_now();
  pass(100ms);
  EXPECT_THAT(c.names(), ElementsAre("@other"));
}

TEST_F(UnixWatchTest, ReportsEachOfFiveHundredOddNames) {
  Settings::Detect rich;
  rich.cpu_budget = 100;
  pace.configure(rich);
  Watched c(shared);
  const std::array<std::string, 10> kinds{
      "\n",     "\x01\x1b[31m", "\xff\xfe", "\"'`$(x)", " blanks ",
      "\0nul"s, "\u202e",       "@at",      "\\\\n",    "%s"};
  std::vector<UniqueFd> open;
  std::vector<std::string> wanted;
  for (int i = 0; i < 500; ++i) {
    std::string name = kinds[static_cast<std::size_t>(i) % kinds.size()] + std::to_string(i);
    if (i % 2 == 0) name.resize(kLongestUnixName, 'x');
    open.push_back(c.ns.listen_unix(AbstractName{name}));
    wanted.push_back("@" + name);
  }
  ASSERT_TRUE(c.until_listeners(500));
  EXPECT_THAT(c.names(), testing::UnorderedElementsAreArray(wanted));
  open.clear();
  EXPECT_TRUE(c.until_listeners(0));
}

TEST_F(UnixWatchTest, ReadsProcWhereNoSocketCanBeMade) {
  Watched c(shared);
  c.provide = [&] { EXPECT_TRUE(c.watch.use_procfs()); };
  UniqueFd listening = c.ns.listen_unix(UnixPath{path("app")});
  ASSERT_TRUE(c.until_listeners(1));
  EXPECT_THAT(c.names(), ElementsAre(path("app")));
  EXPECT_EQ(c.watch.listeners()[0].uid, kUnknownUid);
  listening.reset();
  EXPECT_TRUE(c.until_listeners(0));
}

struct UnixWatchWithoutUnixDiag : UnixWatchTest {
  UnixWatchWithoutUnixDiag() : UnixWatchTest(false) {}
};

TEST_F(UnixWatchWithoutUnixDiag, ReadsProcUntilTheModuleIsLoaded) {
  Watched c(shared);
  const UniqueFd listening = c.ns.listen_unix(AbstractName{"app"});
  const UniqueFd port = c.ns.listen({kLoopback4, 20080});
  ASSERT_TRUE(c.until_listeners(2));
  EXPECT_NE(c.watch.listeners()[0].cookie, 0U) << "ports are read from sock_diag";
  EXPECT_EQ(c.watch.listeners()[1].cookie, 0U);
  has_unix_diag = true;
  look_at_modules();
  EXPECT_TRUE(c.until([&] { return c.watch.listeners()[1].cookie != 0; }));
}

struct UnixAccessTest : AccessTest {
  const Listener& only(const ContainerAccess& access) {
    static const Listener kNone;
    return listens_on(access, 1) ? access.listeners().front() : kNone;
  }
};

TEST_F(UnixAccessTest, SaysWhyNoProcessCanDialARelativePath) {
  const Box box;
  const TempDir there;
  ASSERT_EQ(box.tell([](BoxInside&, const BoxArgument& a) { return ::chdir(a.text.data()); },
                     [&] {
                       BoxArgument argument;
                       there.path().copy(argument.text.data(), argument.text.size() - 1);
                       return argument;
                     }()),
            0);
  ASSERT_EQ(box.open_unix("relative.sock"), 0);
  ContainerAccess& web = add(container("web", box.pid()));
  EXPECT_EQ(only(web).target(), Target(UnixPath{"relative.sock"}));
  EXPECT_THAT(only(web).unreachable, HasSubstr("relative"));
  EXPECT_EQ(web.reason(), "") << "that is about ports";
}

TEST_F(UnixAccessTest, PathsAndAbstractNamesOfTheUsersContainersCanBeDialled) {
  const Box box;
  const TempDir there;
  ASSERT_EQ(box.open_unix(there.path() + "/app.sock"), 0);
  ASSERT_EQ(box.open_unix("@app", SOCK_SEQPACKET), 0);
  ContainerAccess& web = add(container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 2));
  for (const Listener& l : web.listeners()) EXPECT_EQ(l.unreachable, "") << l.local.text();
}

TEST_F(UnixAccessTest, ReportsWhyThoseOfAContainerOfRootCannotBeDialled) {
  const Box box = Box::of_roots();
  const TempDir there;
  ASSERT_EQ(box.open_unix(there.path() + "/app.sock"), 0);
  ASSERT_EQ(box.open_unix("@app"), 0);
  ContainerAccess& web = add(sealed_container("web", box.pid()));
  ASSERT_TRUE(listens_on(web, 2));
  EXPECT_THAT(web.listeners()[0].unreachable, HasSubstr("its file cannot be opened"));
  EXPECT_THAT(web.listeners()[1].unreachable, HasSubstr("abstract name"));
  EXPECT_EQ(web.reason(), "");
}

}  // namespace
}  // namespace portfwd
