// Parsing of netlink messages: wrong lengths, and messages cut at every byte.
#include "kernel/netlink.h"

#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <linux/unix_diag.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "build_paths.h"
#include "kernel/sock_diag.h"

namespace portfwd::netlink {
namespace {

/// Builds messages from values, aligned as by the kernel.
struct Builder {
  template <class T>
  Builder& put(const T& value) {
    const auto raw = std::as_bytes(std::span(&value, 1));
    bytes.insert(bytes.end(), raw.begin(), raw.end());
    return *this;
  }
  Builder& pad() {
    while (bytes.size() % 4 != 0) bytes.push_back(std::byte{0});
    return *this;
  }
  Builder& header(std::size_t length, std::uint16_t type = 99) {
    return put(nlmsghdr{static_cast<std::uint32_t>(length), type, 0, 1, 0});
  }
  Builder& attribute(std::size_t length, std::uint16_t type) {
    return put(nlattr{static_cast<std::uint16_t>(length), type});
  }
  std::vector<std::byte> bytes;
};

int count(Messages& messages) {
  int n = 0;
  while (messages.next()) ++n;
  return n;
}

TEST(Netlink, WalksTheMessagesOfADatagramAndLeavesThePaddingOut) {
  Builder b;
  b.header(17).put('x').pad().header(20).put(std::int32_t{7});
  Messages messages(b.bytes);
  const auto first = messages.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->payload.size(), 1U);
  const auto second = messages.next();
  ASSERT_TRUE(second);
  EXPECT_EQ(copy_header<std::int32_t>(second->payload), 7);
  EXPECT_FALSE(messages.next());
  EXPECT_FALSE(messages.malformed());
}

TEST(Netlink, TheLastMessageMayLackItsPadding) {
  Builder b;
  b.header(17).put('x');
  Messages messages(b.bytes);
  EXPECT_EQ(count(messages), 1);
  EXPECT_FALSE(messages.malformed());
}

TEST(Netlink, ADatagramCutAnywhereIsToldFromAWholeOne) {
  Builder b;
  b.header(24).put(std::uint64_t{1}).header(24).put(std::uint64_t{2});
  for (std::size_t length = 0; length <= b.bytes.size(); ++length) {
    Messages messages(Bytes(b.bytes).first(length));
    EXPECT_EQ(count(messages), static_cast<int>(length / 24));
    EXPECT_EQ(messages.malformed(), length % 24 != 0) << length;
  }
}

TEST(Netlink, ALengthShorterThanTheHeaderEndsTheWalkInsteadOfSpinning) {
  for (const std::uint32_t length : {0U, 1U, 15U}) {
    Builder b;
    b.header(length).header(16);
    Messages messages(b.bytes);
    EXPECT_EQ(count(messages), 0);
    EXPECT_TRUE(messages.malformed());
  }
}

TEST(Netlink, AnAttributeLongerThanItsMessageEndsTheWalk) {
  Builder b;
  b.attribute(5, 1).put('a').pad().attribute(9, 2).put(std::int32_t{0});
  Attributes attributes(b.bytes);
  ASSERT_TRUE(attributes.next());
  EXPECT_FALSE(attributes.next());
  EXPECT_FALSE(attributes.next());
}

TEST(Netlink, TheFlagsInAnAttributesTypeAreNoPartOfIt) {
  Builder b;
  b.attribute(4, NLA_F_NESTED | 11);
  const auto attribute = Attributes(b.bytes).next();
  ASSERT_TRUE(attribute);
  EXPECT_EQ(attribute->type, 11);
  EXPECT_TRUE(attribute->payload.empty());
}

TEST(Netlink, StatusIsThePositiveErrnoOfErrorAndDone) {
  const auto status = [](auto value) {
    Builder b;
    b.header(16 + sizeof value, NLMSG_ERROR).put(value);
    return status_of(*Messages(b.bytes).next());
  };
  EXPECT_EQ(status(std::int32_t{0}), 0);
  EXPECT_EQ(status(std::int32_t{-ENOENT}), ENOENT);
  EXPECT_EQ(status(std::int32_t{5}), EBADMSG);
  EXPECT_EQ(status(std::int32_t{INT32_MIN}), EBADMSG);
  EXPECT_EQ(status(std::int16_t{0}), EBADMSG);
}

struct DiagBytes : Builder {
  explicit DiagBytes(std::uint8_t family) {
    inet_diag_msg diag{};
    diag.idiag_family = family;
    diag.idiag_state = 10;
    diag.id.idiag_sport = htons(8080);
    diag.id.idiag_cookie[0] = 0x55667788;
    diag.id.idiag_cookie[1] = 0x11223344;
    diag.idiag_uid = 1000;
    diag.idiag_inode = 42;
    put(diag);
  }
};

TEST(DiagSocketBytes, AreReadWithTheirAttributes) {
  DiagBytes b(AF_INET6);
  b.attribute(5, INET_DIAG_SKV6ONLY).put('\1').pad();
  b.attribute(8, 999).put(std::uint32_t{1});
  b.attribute(12, INET_DIAG_CGROUP_ID).put(std::uint64_t{77});
  const auto socket = parse_diag_socket(b.bytes);
  ASSERT_TRUE(socket);
  EXPECT_EQ(socket->local, (Endpoint{IpAddress::any(Family::V6), 8080}));
  EXPECT_EQ(socket->cookie, 0x1122334455667788U);
  EXPECT_EQ(socket->uid, 1000U);
  EXPECT_EQ(socket->inode, 42U);
  EXPECT_EQ(socket->state, 10);
  EXPECT_TRUE(socket->v6only);
  EXPECT_EQ(socket->cgroup_id, 77U);
}

TEST(DiagSocketBytes, AttributesAreOptionalAndAShortOneIsAsIfAbsent) {
  DiagBytes b(AF_INET);
  b.attribute(4, INET_DIAG_SKV6ONLY).attribute(8, INET_DIAG_CGROUP_ID).put(std::uint32_t{77});
  const auto socket = parse_diag_socket(b.bytes);
  ASSERT_TRUE(socket);
  EXPECT_FALSE(socket->v6only);
  EXPECT_EQ(socket->cgroup_id, 0U);
}

TEST(DiagSocketBytes, AnythingShorterThanTheFixedPartIsRefused) {
  const DiagBytes b(AF_INET);
  for (std::size_t length = 0; length < b.bytes.size(); ++length) {
    EXPECT_FALSE(parse_diag_socket(Bytes(b.bytes).first(length)));
  }
  EXPECT_TRUE(parse_diag_socket(b.bytes));
}

TEST(DiagSocketBytes, OtherFamiliesAreRefused) {
  EXPECT_FALSE(parse_diag_socket(DiagBytes(AF_UNIX).bytes));
}

std::vector<std::byte> captured(const std::string& name) {
  std::ifstream file(std::string(PORTFWD_TEST_DATA) + "/netlink/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

TEST(CapturedAnswers, ADumpOfFourListeners) {
  const auto bytes = captured("dump.bin");
  Messages messages(bytes);
  std::vector<DiagSocket> sockets;
  while (const auto message = messages.next()) {
    const auto socket = parse_diag_socket(message->payload);
    ASSERT_TRUE(socket);
    sockets.push_back(*socket);
  }
  EXPECT_FALSE(messages.malformed());
  ASSERT_EQ(sockets.size(), 4U);
  std::ranges::sort(sockets, {}, [](const DiagSocket& s) { return s.local.port; });
  EXPECT_EQ(sockets[0].local.text(), "127.0.0.53:20001");
  EXPECT_EQ(sockets[1].local.text(), "0.0.0.0:20002");
  EXPECT_EQ(sockets[2].local.text(), "[::1]:20003");
  EXPECT_TRUE(sockets[2].v6only) << "the kernel sets it for all addresses except the wildcard";
  EXPECT_EQ(sockets[3].local.text(), "[::]:20004");
  EXPECT_TRUE(sockets[3].v6only);
  for (const DiagSocket& socket : sockets) {
    EXPECT_EQ(socket.state, TCP_LISTEN);
    EXPECT_NE(socket.cookie, 0U);
    EXPECT_NE(socket.inode, 0U);
    EXPECT_NE(socket.cgroup_id, 0U);
  }
}

TEST(CapturedAnswers, ADumpCutAnywhereHasOnlyWholeSockets) {
  const auto bytes = captured("dump.bin");
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    Messages messages(Bytes(bytes).first(length));
    while (const auto message = messages.next()) EXPECT_TRUE(parse_diag_socket(message->payload));
  }
}

TEST(CapturedAnswers, TheEndOfADumpSaysSuccess) {
  const auto bytes = captured("done.bin");
  const auto done = Messages(bytes).next();
  ASSERT_TRUE(done);
  EXPECT_EQ(done->header.nlmsg_type, NLMSG_DONE);
  EXPECT_EQ(status_of(*done), 0);
}

TEST(CapturedAnswers, ALookupOfNothingSaysNotFound) {
  const auto bytes = captured("enoent.bin");
  const auto error = Messages(bytes).next();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->header.nlmsg_type, NLMSG_ERROR);
  EXPECT_EQ(status_of(*error), ENOENT);
}

TEST(CapturedAnswers, ADestroyEventHasTheCookieOfTheDumpButNoOwner) {
  const auto bytes = captured("destroy.bin");
  const auto message = Messages(bytes).next();
  ASSERT_TRUE(message);
  const auto gone = parse_diag_socket(message->payload);
  ASSERT_TRUE(gone);
  EXPECT_EQ(gone->local.text(), "127.0.0.53:20001");
  EXPECT_EQ(gone->remote.port, 0);
  EXPECT_EQ(gone->inode, 0U);
  EXPECT_NE(gone->cookie, 0U);
}

/// A compromised broker could pass another socket instead of a netlink socket.
TEST(Netlink, ReadsNoMoreThanABatchFromASocketThatIsNone) {
  constexpr int kSent = 2 * ReceiveBuffer::kMostForeign + 1;
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  SockAddr own = to_sockaddr({IpAddress::loopback(Family::V4), 0});
  ASSERT_EQ(::bind(socket.get(), own.get(), own.length), 0);
  ASSERT_EQ(::getsockname(socket.get(), own.get(), &own.length), 0);
  for (int i = 0; i < kSent; ++i) {
    ASSERT_EQ(::sendto(socket.get(), "x", 1, 0, own.get(), own.length), 1);
  }
  ReceiveBuffer buffer;
  for (int batch = 0; batch < 2; ++batch) {
    const auto got = buffer.receive(socket.get());
    ASSERT_TRUE(got);
    EXPECT_FALSE(*got);
  }
  char byte = 0;
  EXPECT_EQ(::recv(socket.get(), &byte, 1, 0), 1) << "the last one is still there";
  EXPECT_EQ(::recv(socket.get(), &byte, 1, 0), -1);
}

/// A message about a Unix socket in LISTEN state, as by the kernel.
struct UnixBytes : Builder {
  explicit UnixBytes(std::string_view name, std::uint8_t type = SOCK_STREAM,
                     std::uint8_t state = TCP_LISTEN) {
    unix_diag_msg message{};
    message.udiag_family = AF_UNIX;
    message.udiag_type = type;
    message.udiag_state = state;
    message.udiag_ino = 77;
    message.udiag_cookie[0] = 5;
    message.udiag_cookie[1] = 6;
    put(message);
    attribute(4 + name.size(), UNIX_DIAG_NAME);
    for (const char c : name) put(c);
    pad();
    attribute(12, UNIX_DIAG_VFS).put(unix_diag_vfs{.udiag_vfs_ino = 9, .udiag_vfs_dev = 0x800001});
    attribute(12, UNIX_DIAG_RQLEN).put(unix_diag_rqlen{.udiag_rqueue = 1, .udiag_wqueue = 128});
    attribute(8, UNIX_DIAG_UID).put(std::uint32_t{70});
  }
};

TEST(UnixDiag, ReadsEachPartOfAListener) {
  using namespace std::string_view_literals;
  const auto path = parse_diag_unix_socket(UnixBytes("/run/app.sock\0"sv).bytes);
  ASSERT_TRUE(path);
  EXPECT_EQ(path->name, Address(UnixPath{"/run/app.sock"}));
  EXPECT_EQ(path->type, SocketType::Stream);
  EXPECT_EQ(path->inode, 77U);
  EXPECT_EQ(path->cookie, 0x600000005U);
  EXPECT_EQ(path->uid, 70U);
  EXPECT_EQ(path->backlog, 128U);
  EXPECT_EQ(path->file_inode, 9U);
  EXPECT_EQ(path->device, makedev(8, 1));
  const auto name = parse_diag_unix_socket(UnixBytes("\0a\0\nb"sv, SOCK_SEQPACKET).bytes);
  ASSERT_TRUE(name);
  EXPECT_EQ(name->name, Address(AbstractName{std::string("a\0\nb", 4)}));
  EXPECT_EQ(name->type, SocketType::Seqpacket);
}

TEST(UnixDiag, RejectsWhatAcceptsNoClientOrHasNoName) {
  using namespace std::string_view_literals;
  EXPECT_FALSE(parse_diag_unix_socket(UnixBytes("/run/a\0"sv, SOCK_DGRAM).bytes));
  EXPECT_FALSE(parse_diag_unix_socket(UnixBytes("/run/a\0"sv, SOCK_STREAM, TCP_ESTABLISHED).bytes));
  EXPECT_FALSE(parse_diag_unix_socket(UnixBytes(""sv).bytes));
  EXPECT_FALSE(parse_diag_unix_socket(UnixBytes("\0"sv).bytes));
  EXPECT_FALSE(parse_diag_unix_socket(UnixBytes(std::string(kLongestUnixName + 3, 'x')).bytes));
  EXPECT_FALSE(parse_diag_unix_socket(
      UnixBytes(std::string(1, '\0') + std::string(kLongestUnixName + 1, 'x')).bytes));
  UnixBytes shut_down("/run/a\0"sv);
  shut_down.attribute(5, UNIX_DIAG_SHUTDOWN).put(std::uint8_t{3}).pad();
  EXPECT_FALSE(parse_diag_unix_socket(shut_down.bytes));
  EXPECT_FALSE(parse_diag_unix_socket(DiagBytes(AF_INET).bytes));
}

TEST(UnixDiag, AMessageCutAnywhereIsAListenerOrNone) {
  using namespace std::string_view_literals;
  const UnixBytes whole("/run/app.sock\0"sv);
  for (std::size_t length = 0; length < whole.bytes.size(); ++length) {
    const auto found = parse_diag_unix_socket(Bytes(whole.bytes).first(length));
    const bool has_name = length >= sizeof(unix_diag_msg) + 4 + 14;
    EXPECT_EQ(found.has_value(), has_name) << length;
    if (!found) continue;
    EXPECT_EQ(found->name, Address(UnixPath{"/run/app.sock"}));
  }
}

}  // namespace
}  // namespace portfwd::netlink
