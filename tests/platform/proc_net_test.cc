// Contents of the files under /proc/PID/net, compared with sockets that the tests make.
#include "kernel/proc_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <memory>
#include <string>

#include "kernel/procfs.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace testing_support;

constexpr IpAddress kLoopback4 = IpAddress::loopback(Family::V4);
constexpr IpAddress kLoopback6 = IpAddress::loopback(Family::V6);

struct ProcNetFacts : testing::Test {
  SocketsInUse in_use() {
    const auto now = counter->read();
    EXPECT_TRUE(now) << now.error().text();
    return now.value_or(SocketsInUse{});
  }
  TestNetns ns;
  Result<Sockstat> counter = Sockstat::open(ns.pid());
};

TEST_F(ProcNetFacts, TheCountersFollowListenersOfEachFamily) {
  ASSERT_TRUE(counter);
  EXPECT_TRUE(in_use().no_ports());
  UniqueFd v4 = ns.listen({kLoopback4, 0});
  EXPECT_EQ(in_use(), (SocketsInUse{1, 0}));
  const UniqueFd v6 = ns.listen({kLoopback6, 0});
  EXPECT_EQ(in_use(), (SocketsInUse{1, 1}));
  v4.reset();
  EXPECT_EQ(in_use(), (SocketsInUse{0, 1}));
  ::shutdown(v6.get(), SHUT_RDWR);
  EXPECT_TRUE(in_use().no_ports());
}

TEST_F(ProcNetFacts, ASocketThatIsOnlyMadeOrBoundIsNotInUse) {
  ASSERT_TRUE(counter);
  const UniqueFd made = ns.socket(AF_INET, SOCK_STREAM);
  const UniqueFd bound = ns.socket(AF_INET, SOCK_STREAM);
  const SockAddr address = to_sockaddr({kLoopback4, 0});
  ASSERT_EQ(::bind(bound.get(), address.get(), address.length), 0);
  EXPECT_TRUE(in_use().no_ports()) << "sockets made ahead must not look like the container's own";
}

TEST_F(ProcNetFacts, AReplacedListenerLeavesTheCountersUnchanged) {
  ASSERT_TRUE(counter);
  UniqueFd first = ns.listen({kLoopback4, 0});
  const auto before = in_use();
  first.reset();
  const UniqueFd second = ns.listen({kLoopback4, 0});
  EXPECT_EQ(in_use(), before) << "so a dump is due regularly, whatever the counters are";
}

TEST(ProcNetLifetime, AnOpenFileOutlivesItsProcess) {
  auto ns = std::make_unique<TestNetns>();
  const UniqueFd listener = ns->listen({kLoopback4, 0});
  const auto counter = Sockstat::open(ns->pid());
  ASSERT_TRUE(counter);
  ns.reset();
  const auto now = counter->read();
  ASSERT_TRUE(now) << now.error().text();
  EXPECT_EQ(*now, (SocketsInUse{1, 0}));
}

TEST_F(ProcNetFacts, OpenFailsForAPidInAnotherNamespace) {
  struct stat st {};
  ASSERT_EQ(::stat(("/proc/" + std::to_string(ns.pid()) + "/ns/net").c_str(), &st), 0);
  EXPECT_TRUE(Sockstat::open(ns.pid(), st.st_ino));
  const auto elsewhere = Sockstat::open(ns.pid(), st.st_ino + 1);
  ASSERT_FALSE(elsewhere);
  EXPECT_EQ(elsewhere.error().code, ESRCH);
}

TEST_F(ProcNetFacts, TheTablesHaveTheSameListenersAsADump) {
  std::vector<UniqueFd> open;
  open.push_back(ns.listen({IpAddress::v4(127, 1, 2, 3), 20001}));
  open.push_back(ns.listen({IpAddress::any(Family::V4), 20002}));
  open.push_back(ns.listen({kLoopback6, 20003}));
  open.push_back(ns.listen({IpAddress::any(Family::V6), 20004}));
  const UniqueFd client = ns.socket(AF_INET, SOCK_STREAM);
  connect_to(client, {kLoopback4, 20002});
  SockDiag diag(ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
  const auto dumped = diag.listeners();
  const auto table = ProcNetSockets::open(ns.pid());
  ASSERT_TRUE(dumped && table);
  const auto read = table->listeners();
  ASSERT_TRUE(read) << read.error().text();
  const auto keys = [](const std::vector<DiagSocket>& sockets) {
    std::vector<std::pair<Endpoint, std::uint32_t>> out;
    for (const DiagSocket& s : sockets) out.emplace_back(s.local, s.inode);
    std::ranges::sort(out);
    return out;
  };
  EXPECT_EQ(keys(*read), keys(*dumped));
  EXPECT_EQ(read->size(), open.size());
}

TEST_F(ProcNetFacts, ATableOfManyRowsIsReadWhole) {
  std::vector<UniqueFd> open;
  for (int i = 0; i < 400; ++i) open.push_back(ns.listen({kLoopback4, 0}));
  const auto table = ProcNetSockets::open(ns.pid());
  ASSERT_TRUE(table);
  EXPECT_EQ(table->listeners()->size(), open.size());
}

TEST_F(ProcNetFacts, NetFilesHaveAnInodePerNamespace) {
  const TestNetns other;
  const ProcDir proc;
  const auto of = [&](pid_t pid) { return proc.net_files(pid).value_or(0); };
  EXPECT_NE(of(ns.pid()), 0U);
  EXPECT_NE(of(ns.pid()), of(other.pid()));
  EXPECT_NE(of(ns.pid()), of(::getpid()));
  EXPECT_EQ(of(::getppid()), of(::getpid()));
}

TEST_F(ProcNetFacts, AConnectionIsShownInTheNamespaceOfItsEnd) {
  const UniqueFd server = ns.listen({kLoopback4, 0});
  const UniqueFd client = ns.socket(AF_INET, SOCK_STREAM);
  connect_to(client, local_endpoint(server));
  const auto inside = ProcNetSockets::open(ns.pid());
  const auto outside = ProcNetSockets::open(::getpid());
  ASSERT_TRUE(inside && outside);
  const Endpoint near = local_endpoint(client);
  const Endpoint far = local_endpoint(server);
  EXPECT_TRUE(inside->has_connection(far, near).value());  // not even accepted
  EXPECT_FALSE(outside->has_connection(far, near).value());
  EXPECT_FALSE(inside->has_connection(far, {kLoopback4, 1}).value());
}

TEST_F(ProcNetFacts, TheAddressesAreThoseOfTheNamespaceButLoopback) {
  const auto inside = ProcNetAddresses::open(ns.pid());
  ASSERT_TRUE(inside);
  EXPECT_TRUE(inside->read().empty());
}

}  // namespace
}  // namespace portfwd
