// Unix sockets at paths inside a container's root: paths are resolved as inside the container, and
// never lead outside.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <filesystem>

#include "support/broker_fixture.h"
#include "support/sandbox.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using testing_support::open_ns;
using testing_support::Sandbox;
using testing_support::TempDir;

UniqueFd listen_at(const std::string& path) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(socket.get(), 4), 0);
  return socket;
}

bool somebody_came(const UniqueFd& listener) {
  return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)).valid();
}

/// A folder that acts as the root of a container, and one beside it that acts as the host.
struct BrokerUnixTest : testing_support::BrokerTest {
  BrokerUnixTest() {
    std::filesystem::create_directories(inside("/run"));
    std::filesystem::create_directory(dir.path() + "/host");
    root = UniqueFd(::open(inside("").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    client = enter(open_ns(container.pid(), "net"));
  }
  [[nodiscard]] std::string inside(const std::string& path) const {
    return dir.path() + "/root" + path;
  }
  [[nodiscard]] static broker::Request to(const std::string& path) {
    return unix_connection(path).value();
  }
  [[nodiscard]] static broker::Request at(const std::string& path, UnixOwner owner = {}) {
    return unix_listener(path, owner, 4).value();
  }

  TempDir dir;
  UniqueFd root;
  Sandbox container{CLONE_NEWNET};  // the test's own user namespace, whose root is the test's uid
};

TEST_F(BrokerUnixTest, AServerInsideIsReached) {
  const UniqueFd server = listen_at(inside("/run/s"));
  const auto made = ask(root, to("/run/s"));
  ASSERT_EQ(made.size(), 1u);
  EXPECT_TRUE(somebody_came(server));
  EXPECT_NE(::fcntl(made[0].get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(made[0].get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(BrokerUnixTest, ALinkInsideIsFollowedInside) {
  const UniqueFd server = listen_at(inside("/run/s"));
  std::filesystem::create_symlink("/run/s", inside("/run/link"));
  EXPECT_EQ(ask(root, to("/run/link")).size(), 1u);
  EXPECT_TRUE(somebody_came(server));
}

TEST_F(BrokerUnixTest, FollowsNoLinkToTheHostsSockets) {
  const UniqueFd host = listen_at(dir.path() + "/host/s");
  std::filesystem::create_symlink(dir.path() + "/host/s", inside("/absolute"));
  std::filesystem::create_symlink("../../../../../../.." + dir.path() + "/host/s",
                                  inside("/upwards"));
  std::filesystem::create_symlink(dir.path() + "/host", inside("/folder"));
  for (const char* path : {"/absolute", "/upwards", "/folder/s", "/../host/s"}) {
    EXPECT_EQ(error_of(root, to(path)).code, ENOENT) << path;
  }
  EXPECT_FALSE(somebody_came(host));
}

TEST_F(BrokerUnixTest, FollowsNoMagicLinkToTheHostsSockets) {
  const UniqueFd host = listen_at(dir.path() + "/host/s");
  const UniqueFd proc(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::string around = "/self/root" + dir.path() + "/host/s";  // the broker's, so permitted
  EXPECT_EQ(error_of(proc, to(around)).code, ELOOP);
  EXPECT_FALSE(somebody_came(host));
}

TEST_F(BrokerUnixTest, ReportsTheErrorOfConnectWithoutAServer) {
  EXPECT_EQ(error_of(root, to("/run/nothing")).code, ENOENT);
  { const UniqueFd ended = listen_at(inside("/run/s")); }
  const Error error = error_of(root, to("/run/s"));
  EXPECT_EQ(error.code, ECONNREFUSED);
  EXPECT_EQ(error.op, "connect");
}

TEST_F(BrokerUnixTest, AListenerInsideHasTheOwnerAndModeAskedFor) {
  const auto made = ask(root, at("/run/s", {::getuid(), ::getgid(), 0660}));
  ASSERT_EQ(made.size(), 1u);
  struct stat status {};
  ASSERT_EQ(::lstat(inside("/run/s").c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 07777, 0660u);
  EXPECT_EQ(status.st_uid, ::getuid());
  EXPECT_EQ(ask(root, to("/run/s")).size(), 1u);
  EXPECT_TRUE(somebody_came(made[0]));
}

TEST_F(BrokerUnixTest, RemovesThePathWhenItsOwnerCannotBeSet) {
  const Error error = error_of(root, at("/run/s", {12345, 12345, 0600}));  // an unmapped id
  EXPECT_EQ(error.code, EINVAL);
  EXPECT_EQ(error.op, "chown");
  EXPECT_FALSE(std::filesystem::exists(inside("/run/s")));
}

TEST_F(BrokerUnixTest, ReplacesNoFileByAListener) {
  std::filesystem::create_symlink(dir.path() + "/host/new", inside("/run/link"));
  const UniqueFd server = listen_at(inside("/run/s"));
  for (const char* path : {"/run/link", "/run/s"}) {
    EXPECT_EQ(error_of(root, at(path)).code, EADDRINUSE) << path;
  }
  EXPECT_FALSE(std::filesystem::exists(dir.path() + "/host/new"));
}

TEST_F(BrokerUnixTest, AListenersFolderIsFollowedInsideOnly) {
  std::filesystem::create_symlink(dir.path() + "/host", inside("/folder"));
  EXPECT_EQ(error_of(root, at("/folder/new")).code, ENOENT);
  std::filesystem::create_symlink("/run", inside("/var"));
  EXPECT_EQ(ask(root, at("/var/new")).size(), 1u);
  EXPECT_TRUE(std::filesystem::exists(inside("/run/new")));
}

TEST_F(BrokerUnixTest, AListenersPathNamesAnEntryThatFits) {
  for (const char* path : {"/", "/run/", "/run/.", "/run/.."}) {
    EXPECT_EQ(error_of(root, at(path)).code, EINVAL) << path;
  }
  EXPECT_EQ(error_of(root, at("/run/" + std::string(150, 'x'))).code, ENAMETOOLONG);
}

}  // namespace
}  // namespace portfwd
