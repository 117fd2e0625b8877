// Unix sockets of containers with several users: owners of paths, and users as whom the broker
// connects.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>

#include "support/box.h"
#include "support/own_namespaces.h"
#include "support/path_rig.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using testing_support::PathRig;
using testing_support::place_of;

constexpr uid_t kUser = 61001;
constexpr uid_t kFirst = 300000;  ///< of the range that belongs to kUser
constexpr uid_t kMissing = ~uid_t{0};

/// A process in user, mount and network namespaces of its own, with a file system at /mnt in which
/// every user may create files. Ends with the object.
class MappedContainer {
 public:
  /// @param owner of the user namespace @param map of uids and gids
  MappedContainer(uid_t owner, const std::string& map) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    const UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) run(owner, theirs.get());
    theirs.reset();
    int error = ECHILD;
    EXPECT_EQ(::recv(ours.get(), &error, sizeof error, 0), ssize_t{sizeof error});
    EXPECT_EQ(error, 0) << "unshare";
    const std::string folder = "/proc/" + std::to_string(pid_);
    EXPECT_EQ(testing_support::write_file((folder + "/uid_map").c_str(), map), 0);
    EXPECT_EQ(testing_support::write_file((folder + "/gid_map").c_str(), map), 0);
    ::send(ours.get(), &error, sizeof error, 0);
    EXPECT_EQ(::recv(ours.get(), &error, sizeof error, 0), ssize_t{sizeof error});
    EXPECT_EQ(error, 0) << "mount";
  }
  MappedContainer(const MappedContainer&) = delete;
  MappedContainer& operator=(const MappedContainer&) = delete;
  ~MappedContainer() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// A path inside as the test sees it.
  [[nodiscard]] std::string outside(const std::string& path) const {
    return "/proc/" + std::to_string(pid_) + "/root" + path;
  }
  /// The owner of a path inside, as the test sees it.
  [[nodiscard]] uid_t owner_of(const std::string& path) const {
    struct stat about {};
    return ::lstat(outside(path).c_str(), &about) == 0 ? about.st_uid : kMissing;
  }
  /// A server of a user, by its uid outside, in /mnt; only this user may connect to it. Root of the
  /// test has no number inside and so cannot create a file there.
  [[nodiscard]] UniqueFd serve(const std::string& name, uid_t uid) const {
    UniqueFd server(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const UniqueFd folder(::open(outside("/mnt").c_str(), O_PATH | O_CLOEXEC));
    const std::string path = "/proc/self/fd/" + std::to_string(folder.get()) + "/" + name;
    const SockAddr local = sockaddr_of(UnixPath{path}).value();
    ::setfsuid(uid);
    ::setfsgid(uid);
    EXPECT_EQ(::bind(server.get(), local.get(), local.length), 0);
    ::setfsuid(0);
    ::setfsgid(0);
    EXPECT_EQ(::listen(server.get(), 4), 0);
    EXPECT_EQ(::chmod(outside("/mnt/" + name).c_str(), 0600), 0);
    return server;
  }

 private:
  [[noreturn]] static void run(uid_t owner, int peer) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int error = ::setresgid(owner, owner, owner) | ::setresuid(owner, owner, owner);
    ::prctl(PR_SET_DUMPABLE, 1);
    error = error == 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS) == 0 ? 0 : errno;
    ::send(peer, &error, sizeof error, 0);
    ::recv(peer, &error, sizeof error, 0);
    const bool ready = ::setresgid(0, 0, 0) == 0 && ::setresuid(0, 0, 0) == 0 &&
                       ::prctl(PR_SET_DUMPABLE, 1) == 0 &&
                       ::mount("none", "/mnt", "tmpfs", 0, "mode=1777") == 0;
    error = ready ? 0 : errno;
    ::send(peer, &error, sizeof error, 0);
    for (;;) ::pause();
  }

  pid_t pid_ = -1;
};

/// Runs `body` as that user. @return its result
template <class Body>
int as_user(uid_t uid, Body body) {
  const pid_t child = ::fork();
  if (child == 0) {
    const bool changed = ::setresgid(uid, uid, uid) == 0 && ::setresuid(uid, uid, uid) == 0;
    ::_exit(changed ? body() : 255);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

/// The user that a server sees at its next connection. @return kMissing if there is none
uid_t next_peer(const UniqueFd& server) {
  const UniqueFd accepted(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(accepted.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return kMissing;
  return peer.uid;
}

std::string line(uid_t inside, uid_t outside, unsigned count) {
  return std::to_string(inside) + " " + std::to_string(outside) + " " + std::to_string(count) +
         "\n";
}

/// As podman maps users by default: root is the user.
TEST(UnixPaths, ConnectsAsAUserInsideAndGivesPathsAway) {
  const MappedContainer container(kUser, line(0, kUser, 1) + line(1, kFirst, 2000));
  const uid_t inner = kFirst + 999;  // 1000 inside
  const UniqueFd server = container.serve("server", inner);
  const UnixPath path{"/mnt/server"};
  const auto with_paths = [&](auto body) {
    return as_user(kUser, [&] {
      PathRig rig;
      rig.at(place_of(container.pid()));
      return body(rig);
    });
  };

  EXPECT_EQ(with_paths([&](PathRig& rig) {
              return rig.error_of(rig.connect(path, {.peer = InnerUser{1000, 1000}})).code;
            }),
            0);
  EXPECT_EQ(next_peer(server), inner);
  EXPECT_EQ(with_paths([&](PathRig& rig) {
              return rig.error_of(rig.connect(path, {.peer = InnerUser{1001, 1001}})).code;
            }),
            EACCES);
  EXPECT_EQ(next_peer(server), kMissing);
  EXPECT_EQ(
      with_paths([&](PathRig& rig) {
        const int denied = rig.error_of(rig.connect(path, {.peer = InnerUser{1001, 1001}})).code;
        const bool same = rig.paths->pids().size() == 1;
        return denied == EACCES && same && rig.connect(path) ? 0 : 1;
      }),
      0)
      << "the broker has its own ids and capabilities again";
  EXPECT_EQ(next_peer(server), kUser);

  EXPECT_EQ(with_paths([&](PathRig& rig) {
              const ListenOptions options{.owner = InnerUser{1000, 1000}, .make_parents = true};
              return rig.error_of(rig.listen(UnixPath{"/mnt/a/mirror"}, options)).code;
            }),
            0);
  EXPECT_EQ(container.owner_of("/mnt/a/mirror"), inner);
  EXPECT_EQ(container.owner_of("/mnt/a"), kUser) << "root inside";
}

/// As podman maps users with --userns=keep-id: the user is not root inside.
TEST(UnixPaths, TakesBackWhatItGaveAwayInAStickyFolder) {
  const MappedContainer container(
      kUser, line(0, kFirst, 1000) + line(1000, kUser, 1) + line(1001, kFirst + 1000, 1000));
  const auto step = [&](bool remove) {
    return as_user(kUser, [&] {
      PathRig rig;
      rig.at(place_of(container.pid()));
      const ListenOptions options{.owner = InnerUser{70, 70}};
      auto made = rig.listen(UnixPath{"/mnt/mirror"}, options);
      if (!made) return made.error().error.code;
      ListenOptions again = options;
      again.replace = made->bound.made.file;
      auto next = rig.listen(UnixPath{"/mnt/mirror"}, again);
      if (!next) return next.error().error.code;
      return remove ? rig.remove(std::move(*next)) : 0;
    });
  };
  EXPECT_EQ(step(true), 0);
  EXPECT_EQ(container.owner_of("/mnt/mirror"), kMissing);
  EXPECT_EQ(step(false), 0);
  EXPECT_EQ(container.owner_of("/mnt/mirror"), kFirst + 70);
  EXPECT_EQ(step(false), EADDRINUSE);
}

TEST(UnixPaths, ConnectsAsItsOwnUserWhoIsNotRootInside) {
  const MappedContainer container(
      kUser, line(0, kFirst, 1000) + line(1000, kUser, 1) + line(1001, kFirst + 1000, 1000));
  const UniqueFd server = container.serve("server", kFirst + 70);
  const UnixPath path{"/mnt/server"};
  EXPECT_EQ(
      as_user(kUser,
              [&] {
                PathRig rig;
                rig.at(place_of(container.pid()));
                const bool as_other =
                    rig.error_of(rig.connect(path, {.peer = InnerUser{71, 71}})).code == EACCES;
                const bool as_owner = rig.connect(path, {.peer = InnerUser{70, 70}}).has_value();
                return as_other && as_owner && rig.connect(path) ? 0 : 1;
              }),
      0);
  EXPECT_EQ(next_peer(server), kFirst + 70);
  EXPECT_EQ(next_peer(server), kUser);
}

/// As systemd-nspawn -U maps users: root of the host has no number inside.
TEST(UnixPaths, IsRootInsideWhereItsOwnUserIsNotMapped) {
  const MappedContainer container(0, line(0, kFirst, 65536));
  const UniqueFd server = container.serve("server", kFirst + 70);
  PathRig rig;
  rig.at(place_of(container.pid()));
  EXPECT_TRUE(rig.connect(UnixPath{"/mnt/server"}));
  EXPECT_EQ(next_peer(server), kFirst);
  EXPECT_TRUE(rig.connect(UnixPath{"/mnt/server"}, {.peer = InnerUser{70, 70}}));
  EXPECT_EQ(next_peer(server), kFirst + 70);
  auto made = rig.listen(UnixPath{"/mnt/mirror"}, {.owner = InnerUser{65534, 65534}});
  ASSERT_TRUE(made);
  EXPECT_EQ(container.owner_of("/mnt/mirror"), kFirst + 65534);
  EXPECT_EQ(rig.remove(std::move(*made)), 0);
  EXPECT_EQ(container.owner_of("/mnt/mirror"), kMissing);
  EXPECT_EQ(rig.error_of(rig.connect(AbstractName{"nothing"}, {.peer = InnerUser{70, 70}})).code,
            ECONNREFUSED);
}

/// A container of root without a user namespace of its own, as systemd-nspawn creates it.
TEST(UnixPaths, ServesAContainerOfRootInItsOwnUserNamespace) {
  const testing_support::Box container = testing_support::Box::of_roots();
  const testing_support::TempDir dir;
  PathRig rig;
  rig.at(place_of(container.pid()));
  const auto made =
      rig.listen(UnixPath{dir.path() + "/s"}, {.owner = InnerUser{kUser, kUser}, .backlog = 4});
  ASSERT_TRUE(made);
  struct stat about {};
  ASSERT_EQ(::lstat((dir.path() + "/s").c_str(), &about), 0);
  EXPECT_EQ(about.st_uid, kUser);
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  EXPECT_TRUE(rig.connect(UnixPath{dir.path() + "/s"}, {.peer = InnerUser{kUser, kUser}}));
  EXPECT_EQ(next_peer(made->socket), kUser);
  const AbstractName name{"portfwd"};
  const auto named = rig.listen(name, {.backlog = 4});
  ASSERT_TRUE(named);
  EXPECT_TRUE(rig.connect(name, {.peer = InnerUser{kUser, kUser}}));
  EXPECT_EQ(next_peer(named->socket), kUser);
}

}  // namespace
}  // namespace portfwd
