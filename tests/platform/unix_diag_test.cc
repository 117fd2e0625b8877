// What unix_diag and /proc/net/unix show of Unix sockets, compared with sockets that the tests
// make.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <string>
#include <vector>

#include "kernel/proc_net.h"
#include "kernel/sock_diag.h"
#include "support/temp_dir.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace std::string_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

int connect_to(const UniqueFd& fd, const Address& name) {
  const auto address = sockaddr_of(name);
  return ::connect(fd.get(), address->get(), address->length) == 0 ? 0 : errno;
}

struct UnixDiagFacts : testing::Test {
  std::vector<DiagUnixSocket> listeners() {
    const auto found = diag.unix_listeners();
    EXPECT_TRUE(found) << found.error().text();
    return found.value_or(std::vector<DiagUnixSocket>());
  }
  std::vector<std::string> names() {
    std::vector<std::string> out;
    for (const DiagUnixSocket& l : listeners()) out.push_back(l.name.text());
    std::ranges::sort(out);
    return out;
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return folder.path() + "/" + name;
  }

  TempDir folder;
  TestNetns ns;
  SockDiag diag{ns.socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)};
};

TEST_F(UnixDiagFacts, ADumpHasNameTypeBacklogAndIdentityOfEveryListener) {
  const UniqueFd stream = ns.listen_unix(UnixPath{path("stream")}, SOCK_STREAM, 7);
  const UniqueFd records = ns.listen_unix(AbstractName{"a\0b"s}, SOCK_SEQPACKET, 9);
  auto found = listeners();
  ASSERT_THAT(found, SizeIs(2));
  if (found[0].type != SocketType::Stream) std::swap(found[0], found[1]);
  EXPECT_EQ(found[0].name, Address(UnixPath{path("stream")}));
  EXPECT_EQ(found[0].type, SocketType::Stream);
  EXPECT_EQ(found[0].backlog, 7U);
  EXPECT_EQ(found[0].cookie, *socket_cookie(stream.get()));
  EXPECT_EQ(found[0].inode, *socket_inode(stream.get()));
  EXPECT_EQ(found[1].name, Address(AbstractName{"a\0b"s}));
  EXPECT_EQ(found[1].type, SocketType::Seqpacket);
  EXPECT_EQ(found[1].backlog, 9U);
  EXPECT_EQ(found[1].device, 0U);
  EXPECT_EQ(found[1].file_inode, 0U);
}

TEST_F(UnixDiagFacts, OnlySocketsThatAcceptClientsAreInTheDump) {
  const UniqueFd listening = ns.listen_unix(AbstractName{"listening"});
  const UniqueFd bound = ns.socket(AF_UNIX, SOCK_STREAM);
  TestNetns::bind_unix(bound, AbstractName{"bound"});
  const UniqueFd datagrams = ns.socket(AF_UNIX, SOCK_DGRAM);
  TestNetns::bind_unix(datagrams, AbstractName{"datagrams"});
  const UniqueFd client = ns.socket(AF_UNIX, SOCK_STREAM);
  ASSERT_EQ(connect_to(client, AbstractName{"listening"}), 0);
  EXPECT_THAT(names(), ElementsAre("@listening"));
}

TEST_F(UnixDiagFacts, TheNameIsWhatBindWasGivenWhateverHappensToTheFile) {
  const UniqueFd moved = ns.listen_unix(UnixPath{path("moved")});
  const UniqueFd removed = ns.listen_unix(UnixPath{path("removed")});
  const UniqueFd here(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::chdir(folder.path().c_str()), 0);
  const UniqueFd relative = ns.listen_unix(UnixPath{"relative"});
  EXPECT_EQ(::fchdir(here.get()), 0);
  ASSERT_EQ(std::rename(path("moved").c_str(), path("elsewhere").c_str()), 0);
  ASSERT_EQ(::unlink(path("removed").c_str()), 0);
  EXPECT_THAT(names(), ElementsAre(path("moved"), path("removed"), "relative"));
}

TEST_F(UnixDiagFacts, DeviceAndInodeAreThoseOfTheFile) {
  const UniqueFd listening = ns.listen_unix(UnixPath{path("app")});
  struct stat file {};
  ASSERT_EQ(::lstat(path("app").c_str(), &file), 0);
  const auto found = listeners();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].device, file.st_dev);
  EXPECT_EQ(found[0].file_inode, static_cast<std::uint32_t>(file.st_ino));
}

TEST_F(UnixDiagFacts, APathMayFillTheWholeAddressWithoutATerminator) {
  const UniqueFd here(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::chdir(folder.path().c_str()), 0);
  const UniqueFd fd = ns.socket(AF_UNIX, SOCK_STREAM);
  SockAddr address = *sockaddr_of(UnixPath{std::string(kLongestUnixName, 'x')});
  reinterpret_cast<char*>(&address.storage)[address.length - 1] = 'x';  // in place of the NUL
  EXPECT_EQ(::bind(fd.get(), address.get(), address.length), 0);
  EXPECT_EQ(::fchdir(here.get()), 0);
  ASSERT_EQ(::listen(fd.get(), 1), 0);
  EXPECT_THAT(names(), ElementsAre(std::string(kLongestUnixName + 1, 'x')));
}

TEST_F(UnixDiagFacts, AListenerThatWasShutDownStaysInTheDump) {
  const UniqueFd listening = ns.listen_unix(AbstractName{"app"});
  ASSERT_EQ(::shutdown(listening.get(), SHUT_RDWR), 0);
  EXPECT_EQ(connect_to(ns.socket(AF_UNIX, SOCK_STREAM), AbstractName{"app"}), ECONNREFUSED);
  EXPECT_THAT(names(), IsEmpty()) << "the parser leaves it out";
}

TEST_F(UnixDiagFacts, ADumpAndAbstractNamesAreThoseOfTheNamespaceOfTheSocket) {
  const TestNetns other;
  const UniqueFd here = ns.listen_unix(AbstractName{"app"});
  const UniqueFd there = other.listen_unix(AbstractName{"app"}, SOCK_SEQPACKET);
  ASSERT_THAT(listeners(), SizeIs(1));
  EXPECT_EQ(listeners()[0].type, SocketType::Stream);
  EXPECT_EQ(connect_to(ns.socket(AF_UNIX, SOCK_STREAM), AbstractName{"app"}), 0);
  const UniqueFd outside(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect_to(outside, AbstractName{"app"}), ECONNREFUSED);
}

TEST_F(UnixDiagFacts, ADumpOfManyListenersIsCompleteUpToTheLimit) {
  std::vector<UniqueFd> open;
  for (std::size_t i = 0; i < 1000; ++i) {
    open.push_back(ns.listen_unix(AbstractName{"app-" + std::to_string(i)}));
  }
  EXPECT_THAT(listeners(), SizeIs(1000));
}

TEST_F(UnixDiagFacts, TheOwnerIsThatOfTheUserNamespaceOfTheNetlinkSocket) {
  const UniqueFd listening = ns.listen_unix(AbstractName{"app"});
  ASSERT_THAT(listeners(), SizeIs(1));
  EXPECT_EQ(listeners()[0].uid, 0U) << "the maker is root in its user namespace";
}

TEST_F(UnixDiagFacts, TheTableOfProcHasTheSameListeners) {
  const UniqueFd stream = ns.listen_unix(UnixPath{path("with blanks ")});
  const UniqueFd records = ns.listen_unix(AbstractName{"records"}, SOCK_SEQPACKET);
  const UniqueFd datagrams = ns.socket(AF_UNIX, SOCK_DGRAM);
  TestNetns::bind_unix(datagrams, AbstractName{"datagrams"});
  const auto table = ProcNetUnix::open(ns.pid());
  ASSERT_TRUE(table);
  auto shown = table->listeners();
  ASSERT_TRUE(shown);
  auto dumped = listeners();
  for (DiagUnixSocket& l : dumped) {
    l.cookie = l.device = 0;
    l.file_inode = l.backlog = 0;
    l.uid = kUnknownUid;
  }
  std::ranges::sort(*shown, {}, &DiagUnixSocket::inode);
  std::ranges::sort(dumped, {}, &DiagUnixSocket::inode);
  EXPECT_EQ(*shown, dumped);
}

TEST_F(UnixDiagFacts, TheCountersCountAUnixSocketFromTheTimeWhenItIsMade) {
  const auto counter = Sockstat::open(ns.pid());
  ASSERT_TRUE(counter);
  const auto before = counter->read()->others;
  UniqueFd fd = ns.socket(AF_UNIX, SOCK_STREAM);
  EXPECT_EQ(counter->read()->others, before + 1);
  TestNetns::bind_unix(fd, AbstractName{"app"});
  ASSERT_EQ(::listen(fd.get(), 1), 0);
  EXPECT_EQ(counter->read()->others, before + 1) << "listen() itself moves no counter";
  fd.reset();
  EXPECT_EQ(counter->read()->others, before);
}

TEST_F(UnixDiagFacts, ListenersOnPortsDoNotCountAsOtherSockets) {
  const auto counter = Sockstat::open(ns.pid());
  ASSERT_TRUE(counter);
  const auto before = counter->read()->others;
  const UniqueFd port = ns.listen({IpAddress::loopback(Family::V4), 0});
  EXPECT_EQ(counter->read()->others, before);
}

TEST(UnixDiagSelfTest, PassesOnThisKernel) {
  auto diag = SockDiag::open();
  ASSERT_TRUE(diag);
  EXPECT_TRUE(diag->self_test(Protocol::Unix));
}

}  // namespace
}  // namespace portfwd
