// Parsers of /proc/PID/net: texts as written by kernels, cut short, and malformed.
#include "kernel/proc_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include <fstream>
#include <sstream>

#include "build_paths.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::string captured(const std::string& name) {
  std::ifstream file(std::string(PORTFWD_TEST_DATA) + "/proc_net/" + name);
  EXPECT_TRUE(file) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(Sockstat, ReadsTheNumberInUseOfEachFamily) {
  EXPECT_EQ(parse_in_use(captured("sockstat"), "TCP"), 4U);
  EXPECT_EQ(parse_in_use(captured("sockstat6"), "TCP6"), 2U);
}

TEST(Sockstat, ANumberCutOffIsNoNumber) {
  const std::string text = captured("sockstat");
  const std::size_t end = text.find('\n', text.find("TCP:"));
  for (std::size_t length = 0; length <= end; ++length) {
    EXPECT_FALSE(parse_in_use(text.substr(0, length), "TCP")) << length;
  }
  EXPECT_TRUE(parse_in_use(text.substr(0, end + 1), "TCP"));
}

TEST(Sockstat, OtherLabelsAndWordsAreNotMistaken) {
  EXPECT_FALSE(parse_in_use("UDP: inuse 1\nTCP6: inuse 2\n", "TCP"));
  EXPECT_FALSE(parse_in_use("TCP: orphan 2\n", "TCP"));
  EXPECT_FALSE(parse_in_use("TCP: inuse -1\n", "TCP"));
  EXPECT_FALSE(parse_in_use("TCP: inuse 99999999999\n", "TCP"));
  EXPECT_FALSE(parse_in_use("\n\n:\n", "TCP"));
}

TEST(TcpTable, ReadsTheRowsWithTheirStates) {
  const auto rows = parse_socket_table(captured("tcp"), Family::V4);
  ASSERT_EQ(rows.size(), 4U);
  EXPECT_EQ(rows[0].state, TCP_LISTEN);
  EXPECT_EQ(rows[0].local, (Endpoint{IpAddress::any(Family::V4), 20002}));
  EXPECT_EQ(rows[0].uid, 65534U);
  EXPECT_EQ(rows[0].inode, 1221943U);
  EXPECT_EQ(rows[1].local, (Endpoint{IpAddress::v4(127, 0, 0, 53), 20001}));
  EXPECT_EQ(rows[2].state, TCP_ESTABLISHED);
  EXPECT_EQ(rows[2].local, rows[3].remote);
  EXPECT_EQ(rows[2].remote, rows[3].local);
}

TEST(TcpTable, ReadsIpv6Addresses) {
  const auto rows = parse_socket_table(captured("tcp6"), Family::V6);
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0].local, (Endpoint{IpAddress::any(Family::V6), 20004}));
  EXPECT_EQ(rows[1].local, (Endpoint{IpAddress::loopback(Family::V6), 20003}));
}

TEST(TcpTable, ARowCutAnywhereIsSkippedOrWhole) {
  const std::string text = captured("tcp");
  for (std::size_t length = 0; length < text.size(); ++length) {
    EXPECT_LE(parse_socket_table(text.substr(0, length), Family::V4).size(), 4U);
  }
}

TEST(TcpTable, RowsThatMakeNoSenseAreSkipped) {
  EXPECT_TRUE(parse_socket_table("0: 0100007F:1F90 00000000:0000 0A\n", Family::V4).empty());
  EXPECT_TRUE(parse_socket_table(captured("tcp"), Family::V6).empty());
  const std::string row = "0: 0100007X:1F90 00000000:0000 0A 0:0 0:0 0 1 0 2 1\n";
  EXPECT_TRUE(parse_socket_table(row, Family::V4).empty());
}

TEST(FibTrie, HasTheNamespacesOwnAddressesOnceAndWithoutLoopback) {
  EXPECT_THAT(parse_fib_trie(captured("fib_trie")),
              ElementsAre(IpAddress::v4(10, 9, 8, 7), IpAddress::v4(172, 17, 0, 2)));
}

TEST(FibTrie, WhatMakesNoSenseIsSkipped) {
  EXPECT_THAT(parse_fib_trie("/32 host LOCAL\n|-- 10.0.0.1\n/32 host\n"), IsEmpty());
  EXPECT_THAT(parse_fib_trie("|-- 10.0.0.300\n/32 host LOCAL\n"), IsEmpty());
  EXPECT_THAT(parse_fib_trie("|-- 10.0.0.1\n/32 universe UNICAST\n"), IsEmpty());
}

TEST(IfInet6, HasGlobalAddressesThatAreInUse) {
  EXPECT_THAT(parse_if_inet6(captured("if_inet6")), ElementsAre(*IpAddress::parse("fd00::7")));
}

TEST(IfInet6, WhatMakesNoSenseIsSkipped) {
  const std::string good = "fd000000000000000000000000000007 02 40 00 80 eth0\n";
  EXPECT_EQ(parse_if_inet6(good).size(), 1U);
  for (std::size_t length = 0; length + 6 < good.size(); ++length) {
    EXPECT_THAT(parse_if_inet6(good.substr(0, length)), IsEmpty()) << length;
  }
  EXPECT_THAT(parse_if_inet6("fd00000000000000000000000000000g 02 40 00 80 eth0\n"), IsEmpty());
}

constexpr std::string_view kUnixHead = "Num       RefCount Protocol Flags    Type St Inode Path\n";

std::string unix_row(std::string_view rest) {
  return std::string("0000000000000000: 00000002 00000000 ").append(rest) + "\n";
}

TEST(UnixTable, ReadsTheListenersOnly) {
  const auto found = parse_unix_table(
      std::string(kUnixHead) + unix_row("00010000 0001 01 27481 /run/app.sock") +
      unix_row("00010000 0005 01 27482 @name with blanks ") +
      unix_row("00000000 0001 03 27483 /run/app.sock") +
      unix_row("00000000 0002 01 27484 /run/datagrams") + unix_row("00010000 0001 01 27485"));
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].name, Address(UnixPath{"/run/app.sock"}));
  EXPECT_EQ(found[0].type, SocketType::Stream);
  EXPECT_EQ(found[0].inode, 27481U);
  EXPECT_EQ(found[0].uid, kUnknownUid);
  EXPECT_EQ(found[1].name, Address(AbstractName{"name with blanks "}));
  EXPECT_EQ(found[1].type, SocketType::Seqpacket);
}

TEST(UnixTable, RejectsMalformedRows) {
  for (const std::string_view rest :
       {"00010000 0001 01 0 /run/a", "00010000 0001 01 -1 /run/a", "0001000g 0001 01 1 /run/a",
        "00010000 0001 01 1 @", "00010000 0003 01 1 /run/a", "00010000 0001 01 99999999999 /run/a",
        "00010000 0001 01 1 ", "00010000 0001"}) {
    EXPECT_THAT(parse_unix_table(unix_row(rest)), IsEmpty()) << rest;
  }
  EXPECT_THAT(parse_unix_table("00000002 00000000 00010000 0001 01 1 /run/a\n"), IsEmpty())
      << "the first column is missing, as after a newline in a name";
  EXPECT_THAT(parse_unix_table(unix_row("00010000 0001 01 1 /" + std::string(120, 'x'))),
              IsEmpty());
}

TEST(Sockstat, ReadsTheNumberOfAllSockets) {
  EXPECT_EQ(parse_in_use(captured("sockstat"), "sockets"), 6U);
  EXPECT_FALSE(parse_in_use("sockets: free 6\n", "sockets"));
}

}  // namespace
}  // namespace portfwd
