// PathBroker with the real broker: Unix sockets of containers and of the host, by path and by
// abstract name. What a broker does at paths is tested in unit/broker_unix_sockets_test.cc and
// broker_unix_races_test.cc.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "broker/client/path_broker.h"
#include "kernel/netns.h"
#include "relay/unix_dialer.h"
#include "support/hanging_fuse.h"
#include "support/manual_clock.h"
#include "support/path_rig.h"
#include "support/sandbox.h"
#include "support/temp_dir.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using broker::FileKind;
using testing_support::place_of;
using testing_support::Sandbox;
using testing_support::TempDir;
using testing_support::TestNetns;

/// Binds a socket and listens.
UniqueFd listen_with(UniqueFd socket, const Address& address) {
  const SockAddr local = sockaddr_of(address).value();
  EXPECT_EQ(::bind(socket.get(), local.get(), local.length), 0) << std::strerror(errno);
  EXPECT_EQ(::listen(socket.get(), 4), 0);
  return socket;
}

UniqueFd unix_socket(int type = SOCK_STREAM) {
  return UniqueFd(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

UniqueFd listen_at(const std::string& path) {
  return listen_with(unix_socket(), UnixPath{path});
}

UniqueFd accept_on(const UniqueFd& listener) {
  return UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

int connect_to(const UniqueFd& socket, const Address& address) {
  const SockAddr remote = sockaddr_of(address).value();
  return ::connect(socket.get(), remote.get(), remote.length) == 0 ? 0 : errno;
}

/// A line of /proc/PID/status.
std::string status_of(pid_t pid, const std::string& key) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":\t")) return line.substr(key.size() + 2);
  }
  return "";
}

constexpr std::uint64_t bits(std::initializer_list<int> capabilities) {
  std::uint64_t set = 0;
  for (const int capability : capabilities) set |= std::uint64_t{1} << capability;
  return set;
}

struct BrokerUnixTest : testing::Test, testing_support::PathRig {
  TempDir dir;
};

TEST_F(BrokerUnixTest, ReachesAServerAtAPathOfAContainer) {
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
  const UniqueFd server = listen_at(dir.path() + "/s");
  at(place_of(container.pid()));
  const auto made = connect(UnixPath{dir.path() + "/s"});
  ASSERT_TRUE(made) << made.error().error.text();
  EXPECT_TRUE(accept_on(server).valid());
  EXPECT_NE(::fcntl(made->get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(made->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(error_of(connect(UnixPath{dir.path() + "/nothing"})).code, ENOENT);
}

/// The root of the container is a folder of its own, as with bubblewrap and engines.
TEST_F(BrokerUnixTest, LooksUpPathsInTheRootOfTheContainer) {
  const std::string root = dir.path() + "/root";
  std::filesystem::create_directories(root + "/run");
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS,
                          [&] { return ::chroot(root.c_str()); });
  ASSERT_EQ(container.answer(), 0);
  const UniqueFd host = listen_at(dir.path() + "/s");
  std::filesystem::create_symlink(dir.path() + "/s", root + "/run/link");
  at(place_of(container.pid()));
  auto made = listen(UnixPath{"/run/s"}, {.backlog = 4});
  ASSERT_TRUE(made) << made.error().error.text();
  EXPECT_TRUE(std::filesystem::is_socket(root + "/run/s"));
  EXPECT_TRUE(connect(UnixPath{"/run/s"}));
  EXPECT_TRUE(accept_on(made->socket).valid());
  EXPECT_EQ(error_of(connect(UnixPath{"/run/link"})).code, ENOENT);
  EXPECT_EQ(error_of(connect(UnixPath{dir.path() + "/s"})).code, ENOENT);
  EXPECT_FALSE(accept_on(host).valid());
  EXPECT_EQ(remove(std::move(*made)), 0);
  EXPECT_FALSE(std::filesystem::exists(root + "/run/s"));
  EXPECT_EQ(discarded.size(), 1u) << "the listener";
}

/// A folder below /proc of a container leads to the roots of other processes.
TEST_F(BrokerUnixTest, FollowsNoMagicLinkToTheHostsSockets) {
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
  const UniqueFd host = listen_at(dir.path() + "/s");
  std::filesystem::create_symlink("/proc/self/root" + dir.path(), dir.path() + "/link");
  at(place_of(container.pid()));
  for (const std::string& folder : {"/proc/self/root" + dir.path(), dir.path() + "/link"}) {
    EXPECT_EQ(error_of(connect(UnixPath{folder + "/s"})).code, ELOOP);
    EXPECT_EQ(error_of(listen(UnixPath{folder + "/new"})).code, ELOOP);
  }
  EXPECT_FALSE(accept_on(host).valid());
}

TEST_F(BrokerUnixTest, ServesThePathsAndNamesOfTheHost) {
  at(PathPlace::of_host().value());
  for (const Address& address :
       std::vector<Address>{UnixPath{dir.path() + "/s"}, AbstractName{"portfwd" + dir.path()}}) {
    auto made = listen(address, {.type = SocketType::Seqpacket, .backlog = 4});
    ASSERT_TRUE(made) << made.error().error.text();
    EXPECT_EQ(connect_to(unix_socket(SOCK_SEQPACKET), address), 0);
    EXPECT_TRUE(accept_on(made->socket).valid());
    EXPECT_TRUE(connect(address, {.type = SocketType::Seqpacket}));
    EXPECT_FALSE(connect(address)) << "a stream";
  }
  EXPECT_EQ(paths->pids().size(), 1u);
}

TEST_F(BrokerUnixTest, ServesAbstractNamesOfTheContainersNamespace) {
  const TestNetns container;
  const AbstractName name{std::string("na\0me", 5)};
  const UniqueFd inside = listen_with(container.socket(AF_UNIX, SOCK_STREAM), name);
  const UniqueFd host = listen_with(unix_socket(), name);
  at(place_of(container.pid()));
  EXPECT_TRUE(connect(name));
  EXPECT_TRUE(accept_on(inside).valid());
  EXPECT_FALSE(accept_on(host).valid());
  EXPECT_EQ(error_of(listen(name)).code, EADDRINUSE);
  const AbstractName longest{std::string(kLongestUnixName, 'x')};
  const auto made = listen(longest, {.backlog = 4});
  ASSERT_TRUE(made);
  EXPECT_EQ(made->bound.made, broker::BoundFile{});
  EXPECT_EQ(connect_to(unix_socket(), longest), ECONNREFUSED) << "outside";
  EXPECT_EQ(connect_to(container.socket(AF_UNIX, SOCK_STREAM), longest), 0);
  EXPECT_TRUE(accept_on(made->socket).valid());
}

TEST_F(BrokerUnixTest, KeepsOnlyTheCapabilitiesThatItNeeds) {
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
  const auto expect_kept = [](pid_t pid, std::uint64_t kept) {
    EXPECT_EQ(std::stoull("0" + status_of(pid, "CapPrm"), nullptr, 16), kept);
    EXPECT_EQ(std::stoull("0" + status_of(pid, "CapEff"), nullptr, 16), kept);
    EXPECT_EQ(std::stoull("0" + status_of(pid, "CapInh"), nullptr, 16), 0u);
    EXPECT_EQ(std::stoull("0" + status_of(pid, "CapAmb"), nullptr, 16), 0u);
    EXPECT_EQ(status_of(pid, "NoNewPrivs"), "1");
    EXPECT_EQ(status_of(pid, "Seccomp"), "2");
  };
  at(place_of(container.pid()));
  EXPECT_EQ(error_of(connect(UnixPath{"/nothing"})).code, ENOENT);
  ASSERT_EQ(paths->pids().size(), 1u);
  expect_kept(paths->pids()[0], bits({CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_SETUID, CAP_SETGID}));
  EXPECT_EQ(error_of(connect(AbstractName{"nothing"})).code, ECONNREFUSED);
  ASSERT_EQ(paths->pids().size(), 2u);
  expect_kept(paths->pids()[1], bits({CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID}));
  EXPECT_NE(testing_support::netns_of(paths->pids()[1]), container.netns()) << "it pins none";
  at(PathPlace::of_host().value());
  EXPECT_EQ(error_of(connect(UnixPath{"/nothing"})).code, ENOENT);
  expect_kept(paths->pids()[0], 0);
}

TEST_F(BrokerUnixTest, RejectsUsersThatAreNotMappedAndContinues) {
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
  const UniqueFd server = listen_at(dir.path() + "/s");
  at(place_of(container.pid()));
  const UnixPath path{dir.path() + "/s"};
  const Error unmapped = error_of(connect(path, {.peer = InnerUser{70, 70}}));
  EXPECT_EQ(unmapped.code, EINVAL);
  EXPECT_EQ(unmapped.op, "setresuid");
  EXPECT_EQ(error_of(connect(path, {.peer = InnerUser{70, 0}})).code, EINVAL);
  EXPECT_FALSE(accept_on(server).valid());
  EXPECT_TRUE(connect(path, {.peer = InnerUser{0, 0}}));
  const UnixPath other{dir.path() + "/new"};
  const Error chown = error_of(listen(other, {.owner = InnerUser{70, 70}}));
  EXPECT_EQ(chown.code, EINVAL);
  EXPECT_EQ(chown.op, "chown");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path()), {}), 1);
  EXPECT_TRUE(listen(other, {.owner = InnerUser{0, 0}}));
  EXPECT_EQ(paths->pids().size(), 1u);
}

TEST_F(BrokerUnixTest, CreatesNothingWithoutPermissionOnTheHost) {
  std::filesystem::permissions(dir.path(), std::filesystem::perms{0500});
  at(PathPlace::of_host().value());
  EXPECT_EQ(error_of(listen(UnixPath{dir.path() + "/s"})).code, EACCES);
  EXPECT_EQ(error_of(listen(UnixPath{dir.path() + "/a/s"}, {.make_parents = true})).code, EACCES);
  EXPECT_EQ(error_of(connect(UnixPath{dir.path() + "/s"})).code, ENOENT);
  std::filesystem::permissions(dir.path(), std::filesystem::perms{0000});
  EXPECT_EQ(error_of(connect(UnixPath{dir.path() + "/s"})).code, EACCES);
  std::filesystem::permissions(dir.path(), std::filesystem::perms{0700});
}

TEST_F(BrokerUnixTest, ReportsFileSystemsThatAreFullOrReadOnly) {
  const std::string mount = dir.path() + "/mnt";
  std::filesystem::create_directory(mount);
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS, [&] {
    if (::mount("none", mount.c_str(), "tmpfs", 0, "nr_inodes=4") != 0) return errno;
    for (const char* name : {"/full", "/ro"}) {
      if (::mkdir((mount + name).c_str(), 0700) != 0) return errno;
    }
    const std::string ro = mount + "/ro";
    if (::mount("none", ro.c_str(), "tmpfs", 0, nullptr) != 0) return errno;
    return ::mount(nullptr, ro.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0 ? 0 : errno;
  });
  ASSERT_EQ(container.answer(), 0);
  at(place_of(container.pid()));
  EXPECT_EQ(error_of(listen(UnixPath{mount + "/ro/s"})).code, EROFS);
  EXPECT_EQ(error_of(listen(UnixPath{mount + "/ro/a/s"}, {.make_parents = true})).code, EROFS);
  EXPECT_EQ(error_of(listen(UnixPath{mount + "/full/s"})).code, ENOSPC);
  EXPECT_EQ(error_of(listen(UnixPath{mount + "/full/a/s"}, {.make_parents = true})).code, ENOSPC);
}

TEST_F(BrokerUnixTest, SaysWhatIsInTheWay) {
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
  at(place_of(container.pid()));
  const UniqueFd live = listen_at(dir.path() + "/s");
  std::ofstream(dir.path() + "/file");
  const auto socket = listen(UnixPath{dir.path() + "/s"});
  EXPECT_EQ(error_of(socket).code, EADDRINUSE);
  EXPECT_EQ(socket.error().found, FileKind::Socket);
  const auto file = listen(UnixPath{dir.path() + "/file"});
  EXPECT_EQ(error_of(file).code, EEXIST);
  EXPECT_EQ(file.error().found, FileKind::Regular);
  const auto dialled = connect(UnixPath{dir.path() + "/file"});
  EXPECT_EQ(error_of(dialled).code, ENOTSOCK);
  EXPECT_EQ(dialled.error().found, FileKind::Regular);
  EXPECT_EQ(connect_to(unix_socket(), UnixPath{dir.path() + "/s"}), 0);
  EXPECT_TRUE(accept_on(live).valid());
}

/// Sends a descriptor. @return 0 or errno
int send_descriptor(const UniqueFd& socket) {
  const int fd = socket.get();
  const auto sent = send_with_fds(fd, std::as_bytes(std::span("x", 1)), {&fd, 1});
  return sent ? 0 : sent.error().code;
}

TEST_F(BrokerUnixTest, RefusesDescriptorsWhereTheKernelCan) {
  constexpr int kPassRights = 83;  // SO_PASSRIGHTS
  const int no = 0;
  const bool known =
      ::setsockopt(unix_socket().get(), SOL_SOCKET, kPassRights, &no, sizeof no) == 0;
  at(PathPlace::of_host().value());
  for (const bool refuse : {true, false}) {
    const UnixPath path{dir.path() + (refuse ? "/refused" : "/accepted")};
    const auto made = listen(path, {.backlog = 4, .refuse_fds = refuse});
    ASSERT_TRUE(made);
    const auto client = connect(path, {.refuse_fds = refuse});
    ASSERT_TRUE(client);
    const UniqueFd accepted = accept_on(made->socket);
    const int expected = known && refuse ? EPERM : 0;
    EXPECT_EQ(send_descriptor(accepted), expected);
    EXPECT_EQ(send_descriptor(*client), expected);
  }
}

/// The anchor process has exited, and another one of the container has taken its place.
TEST_F(BrokerUnixTest, ContinuesWithAnotherProcessOfTheContainer) {
  std::optional<Sandbox> first(std::in_place, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
  const UniqueFd pidfd = open_pidfd(first->pid()).value();
  const pid_t pid = first->pid();
  const UniqueFd server = listen_at(dir.path() + "/s");
  at(place_of(pid));
  EXPECT_TRUE(connect(UnixPath{dir.path() + "/s"}));
  first.reset();
  EXPECT_TRUE(connect(UnixPath{dir.path() + "/s"})) << "the descriptors stay";
  EXPECT_FALSE(PathPlace::of_container(pid, pidfd.get()));
  const Sandbox second(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS);
  paths->move_to(place_of(second.pid()));
  EXPECT_TRUE(connect(UnixPath{dir.path() + "/s"}));
}

struct Dialled final : DialHandler {
  void on_dialled(Result<UniqueFd> connected) override { result = std::move(connected); }
  std::optional<Result<UniqueFd>> result;
};

TEST_F(BrokerUnixTest, DialsWhenThereIsRoomInTheBacklogAgain) {
  at(PathPlace::of_host().value());
  const Address address = UnixPath{dir.path() + "/s"};
  const UniqueFd server = unix_socket();
  const SockAddr local = sockaddr_of(address).value();
  ASSERT_EQ(::bind(server.get(), local.get(), local.length), 0);
  ASSERT_EQ(::listen(server.get(), 0), 0);
  const UniqueFd first = unix_socket();
  ASSERT_EQ(connect_to(first, address), 0);
  UnixDialer dialer(loop, *paths);
  Dialled dialled;
  const auto start = dialer.dial({&address, 1}, clock.now() + testing_support::kDeadline, dialled);
  const TimePoint limit = clock.now() + 50ms;
  wait_until([&] { return clock.now() > limit; });
  EXPECT_FALSE(dialled.result);
  EXPECT_TRUE(accept_on(server).valid());
  wait_until([&] { return dialled.result.has_value(); });
  ASSERT_TRUE(dialled.result && *dialled.result);
  EXPECT_TRUE(accept_on(server).valid());
}

TEST_F(BrokerUnixTest, DialsTheNextCandidate) {
  at(PathPlace::of_host().value());
  const UniqueFd server = listen_at(dir.path() + "/s");
  UnixDialer dialer(loop, *paths);
  Dialled dialled;
  const std::vector<Address> candidates{UnixPath{dir.path() + "/nothing"},
                                        AbstractName{"nothing" + dir.path()},
                                        UnixPath{dir.path() + "/s"}};
  const auto start = dialer.dial(candidates, clock.now() + testing_support::kDeadline, dialled);
  wait_until([&] { return dialled.result.has_value(); });
  EXPECT_TRUE(dialled.result && *dialled.result);
  EXPECT_TRUE(accept_on(server).valid());
}

/// As NeverBindsOutsideWhileItsFolderIsExchanged in unit/, with the real process.
TEST_F(BrokerUnixTest, NeverLeavesTheRootWhileItsFolderIsExchanged) {
  const std::string root = dir.path() + "/root", host = dir.path() + "/host";
  std::filesystem::create_directories(root + "/a");
  std::filesystem::create_directory(host);
  std::filesystem::create_directory_symlink(host, root + "/b");
  const Sandbox container(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWNS,
                          [&] { return ::chroot(root.c_str()); });
  const UniqueFd live = listen_at(host + "/s");
  at(place_of(container.pid()));
  std::atomic<bool> ended = false;
  std::thread attacker([&] {
    const std::string a = root + "/a", b = root + "/b";
    while (!ended) {
      ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
    }
  });
  for (int i = 0; i < 300; ++i) {
    auto made = listen(UnixPath{"/a/s"}, {.backlog = 4});
    (void)connect(UnixPath{"/a/s"});
    if (made) (void)remove(std::move(*made));
  }
  ended = true;
  attacker.join();
  EXPECT_FALSE(accept_on(live).valid());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(host), {}), 1);
}

/// A container whose file system does not answer, with a clock that the test moves.
struct StuckPathsTest : testing::Test {
  StuckPathsTest() { log::set_level(log::Level::Error); }
  ~StuckPathsTest() override {
    paths.reset();
    hanging.end();
    turn_until([&] { return launcher->dying() == 0; });
    log::set_level(log::Level::Info);
  }
  template <class Condition>
  void turn_until(Condition condition) {
    const SystemClock real;
    const TimePoint limit = real.now() + testing_support::kDeadline;
    while (!condition() && real.now() < limit) ASSERT_TRUE(loop.turn(10ms));
    EXPECT_TRUE(condition());
  }
  PathCall connect(PathBroker& broker, const std::string& path) {
    error.reset();
    return broker.connect(UnixPath{path}, {}, [this](std::expected<UniqueFd, PathFailure> made) {
      error = made ? Error{} : made.error().error;
    });
  }
  /// Starts a look-up that is not answered, and lets its time pass.
  void hang_once() {
    ++hangs;
    const auto call = connect(*paths, hanging.mount() + "/hang");
    ASSERT_TRUE(loop.turn(0ms));
    turn_until([&] { return paths->pids().size() == 1; });
    if (hangs == 1) {
      ASSERT_TRUE(hanging.wait_for_silence());
    } else {  // for the first one, which holds the lock of the folder
      turn_until([&] { return status_of(paths->pids()[0], "State").starts_with("D"); });
    }
    ASSERT_TRUE(loop.turn(10ms));
    clock.advance(BrokerClient::kDeadline);
    turn_until([&] { return error.has_value(); });
    EXPECT_EQ(error->code, ETIMEDOUT);
    EXPECT_TRUE(BrokerClient::is_broker_failure(*error));
    clock.advance(BrokerClient::kLongestPause);
  }

  testing_support::ManualClock clock;
  EventLoop loop{clock};
  std::shared_ptr<SpawnLauncher> launcher =
      std::make_shared<SpawnLauncher>(loop, PORTFWD_BROKER_PATH);
  testing_support::HangingFuse hanging{testing_support::HangingFuse::What::Mount};
  std::optional<PathBroker> paths{std::in_place, loop, launcher, place_of(hanging.pid())};
  std::optional<Error> error;
  int hangs = 0;
};

TEST_F(StuckPathsTest, KillsABrokerThatWaitsForAFileSystem) {
  const TempDir dir;
  const UniqueFd server = listen_at(dir.path() + "/s");
  hang_once();
  EXPECT_EQ(paths->stuck().size(), 1u) << "it waits for the server, which keeps it from exiting";
  PathBroker other(loop, launcher, PathPlace::of_host().value());
  auto call = connect(other, dir.path() + "/s");
  turn_until([&] { return error.has_value(); });
  EXPECT_EQ(error->code, 0) << "another place is not affected";
  call = connect(*paths, dir.path() + "/s");
  turn_until([&] { return error.has_value(); });
  EXPECT_EQ(error->code, 0) << "nor are other paths of the container";
  hanging.end();
  turn_until([&] { return paths->stuck().empty(); });
}

TEST_F(StuckPathsTest, StartsNoMoreBrokersWhenSeveralDoNotExit) {
  for (std::size_t i = 0; i < PathBroker::kMostStuck; ++i) hang_once();
  ASSERT_EQ(paths->stuck().size(), PathBroker::kMostStuck);
  auto call = connect(*paths, "/");
  turn_until([&] { return error.has_value(); });
  EXPECT_EQ(error->code, EBUSY);
  hanging.end();
  turn_until([&] { return paths->stuck().empty(); });
  clock.advance(BrokerClient::kLongestPause);
  call = connect(*paths, "/");
  turn_until([&] { return error.has_value(); });
  EXPECT_EQ(error->code, ENOTSOCK);
}

}  // namespace
}  // namespace portfwd
