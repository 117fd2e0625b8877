// Requests that a broker rejects before it acts.
#include <gtest/gtest.h>

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
  request.home = static_cast<Home>(2);
  EXPECT_EQ(error(), EINVAL);
  request.op = static_cast<Op>(0);
  EXPECT_EQ(error(), EINVAL);
  request.op = static_cast<Op>(6);
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

TEST_F(CheckTest, AUnixPathNeedsARootASlashAndAnEnd) {
  request.op = Op::UnixConnect;
  path("/run/x");
  EXPECT_EQ(error(true), 0);
  EXPECT_EQ(error(false), EINVAL);
  path("run/x");
  EXPECT_EQ(error(true), EINVAL);
  std::memset(request.path, '/', sizeof request.path);
  EXPECT_EQ(error(true), EINVAL);
}

TEST_F(CheckTest, AModeHasPermissionBitsOnly) {
  request.op = Op::UnixListen;
  path("/run/x");
  request.mode = 0777;
  EXPECT_EQ(error(true), 0);
  request.mode = 04755;
  EXPECT_EQ(error(true), EINVAL);
}

}  // namespace
}  // namespace portfwd::broker
