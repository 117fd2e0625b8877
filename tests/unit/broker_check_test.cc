// Requests that a broker rejects before it acts.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>

#include "broker/channel.h"

namespace portfwd::broker {
namespace {

struct CheckTest : testing::Test {
  CheckTest() { request.id = 1; }
  [[nodiscard]] int error(bool passed = false) const { return check(request, passed).error; }
  void path(const char* text) { std::strcpy(request.path, text); }
  Request request;
};

TEST_F(CheckTest, AJoinIsSoundWithAndWithoutAUserNamespace) {
  EXPECT_EQ(error(false), 0);
  EXPECT_EQ(error(true), 0);
}

TEST_F(CheckTest, AnotherVersionIsNamedAsSuch) {
  request.version = kVersion + 1;
  EXPECT_EQ(error(), EPROTONOSUPPORT);
}

TEST_F(CheckTest, AnIdOfZeroIsNonsense) {
  request.id = 0;
  EXPECT_EQ(error(), EINVAL);
}

TEST_F(CheckTest, AnUnknownOperationOrHomeIsNonsense) {
  request.home = kLastHome;
  EXPECT_EQ(error(), 0);
  request.home = static_cast<Home>(5);
  EXPECT_EQ(error(), EINVAL);
  request.op = static_cast<Op>(0);
  EXPECT_EQ(error(), EINVAL);
  request.op = static_cast<Op>(7);
  EXPECT_EQ(error(), EINVAL);
}

TEST_F(CheckTest, SocketsAreAskedForByOneTo253) {
  request.op = Op::Sockets;
  for (const std::uint32_t good : {1u, 253u}) {
    request.count = good;
    EXPECT_EQ(error(), 0) << good;
  }
  for (const std::uint32_t bad : {0u, 254u, 0xffffffffu}) {
    request.count = bad;
    EXPECT_EQ(error(), EINVAL) << bad;
  }
}

TEST_F(CheckTest, AListenerHasAPortOf16BitsAndAFlagOfOne) {
  request.op = Op::Listen;
  request.port = 65535;
  EXPECT_EQ(error(), 0);
  request.port = 65536;
  EXPECT_EQ(error(), EINVAL);
  request.port = 80;
  request.v6only = 2;
  EXPECT_EQ(error(), EINVAL);
}

/// A request for a path or name, correct unless a test changes it.
struct UnixCheckTest : CheckTest {
  UnixCheckTest() {
    request.op = Op::UnixListen;
    request.type = SOCK_STREAM;
    path("/run/x");
  }
  static constexpr Op kAll[]{Op::UnixConnect, Op::UnixListen, Op::UnixRemove};
};

TEST_F(UnixCheckTest, RequiresARootASlashAndAnEndOfAPath) {
  for (const Op op : kAll) {
    request.op = op;
    path("/run/x");
    EXPECT_EQ(error(true), 0);
    EXPECT_EQ(error(false), EINVAL);
    path("run/x");
    EXPECT_EQ(error(true), EINVAL);
    std::memset(request.path, '/', sizeof request.path);
    EXPECT_EQ(error(true), EINVAL);
  }
}

TEST_F(UnixCheckTest, AcceptsPermissionBitsOnlyAsAMode) {
  request.mode = 0777;
  EXPECT_EQ(error(true), 0);
  request.mode = 01777;
  EXPECT_EQ(error(true), EINVAL);
}

TEST_F(UnixCheckTest, AcceptsStreamsAndPacketsOnly) {
  request.type = SOCK_SEQPACKET;
  EXPECT_EQ(error(true), 0);
  for (const int type : {0, int{SOCK_DGRAM}, SOCK_STREAM | SOCK_CLOEXEC, -1}) {
    request.type = type;
    EXPECT_EQ(error(true), EINVAL) << type;
  }
}

TEST_F(UnixCheckTest, RejectsUnknownFlagsAndTooManyFolders) {
  for (const Op op : kAll) {
    request.op = op;
    request.flags = kAllFlags;
    request.bound.parents = kMostParents;
    EXPECT_EQ(error(true), 0);
    request.flags = kAllFlags + 1;
    EXPECT_EQ(error(true), EINVAL);
    request.flags = 0;
    request.bound.parents = kMostParents + 1;
    EXPECT_EQ(error(true), EINVAL);
  }
}

TEST_F(UnixCheckTest, AcceptsAnAbstractNameWithOrWithoutANamespace) {
  path("no slash");
  request.name_size = kLongestName;
  EXPECT_EQ(error(true), 0);
  EXPECT_EQ(error(false), 0);
  request.name_size = kLongestName + 1;
  EXPECT_EQ(error(true), EINVAL);
}

TEST_F(UnixCheckTest, RejectsANameWhereAPathIsMeant) {
  request.name_size = 1;
  for (const std::uint32_t flag : {kReplace, kMakeParents}) {
    request.flags = flag;
    EXPECT_EQ(error(true), EINVAL);
  }
  request.flags = 0;
  request.op = Op::UnixRemove;
  EXPECT_EQ(error(true), EINVAL);
}

}  // namespace
}  // namespace portfwd::broker
