// Properties of Unix sockets: messages, passed descriptors, and paths reached through a descriptor.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "support/deadline.h"
#include "support/temp_dir.h"
#include "support/test_netns.h"

namespace portfwd {
namespace {

using testing_support::TempDir;

struct SeqPacketPair {
  SeqPacketPair() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    ours = UniqueFd(ends[0]);
    theirs = UniqueFd(ends[1]);
  }
  UniqueFd ours, theirs;
};

UniqueFd unix_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  return address;
}

int bind_to(const UniqueFd& socket, const std::string& path) {
  const sockaddr_un address = address_of(path);
  return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

int connect_to(const UniqueFd& socket, const std::string& path) {
  const sockaddr_un address = address_of(path);
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

std::string through(const UniqueFd& fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}

int open_descriptors() {
  int count = 0;
  for (int fd = 0; fd < 256; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

TEST(UnixSocket, SurplusDescriptorsAreDroppedByTheKernel) {
  const SeqPacketPair pair;
  std::array<int, 3> three{pair.ours.get(), pair.ours.get(), pair.ours.get()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof three)> control{};
  char byte = 'x';
  iovec part{&byte, 1};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* item = CMSG_FIRSTHDR(&header);
  item->cmsg_level = SOL_SOCKET;
  item->cmsg_type = SCM_RIGHTS;
  item->cmsg_len = CMSG_LEN(sizeof three);
  std::memcpy(CMSG_DATA(item), three.data(), sizeof three);
  ASSERT_EQ(::sendmsg(pair.ours.get(), &header, 0), 1);

  const int before = open_descriptors();
  header.msg_controllen = CMSG_LEN(sizeof(int));  // room for one
  ASSERT_EQ(::recvmsg(pair.theirs.get(), &header, MSG_CMSG_CLOEXEC), 1);
  EXPECT_NE(header.msg_flags & MSG_CTRUNC, 0);
  EXPECT_EQ(open_descriptors(), before + 1);
  int received = -1;
  std::memcpy(&received, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof received);
  const UniqueFd close_it(received);
}

TEST(UnixSocket, AnEmptyMessageIsReadLikeTheEndButCanBeAnswered) {
  SeqPacketPair pair;
  char byte = 0;
  ASSERT_EQ(::send(pair.ours.get(), &byte, 0, 0), 0);
  EXPECT_EQ(::recv(pair.theirs.get(), &byte, 1, 0), 0);
  EXPECT_EQ(::send(pair.theirs.get(), &byte, 1, MSG_NOSIGNAL), 1);
  EXPECT_EQ(::recv(pair.ours.get(), &byte, 1, 0), 1);
  pair.ours.reset();
  EXPECT_EQ(::recv(pair.theirs.get(), &byte, 1, 0), 0);
  EXPECT_EQ(::send(pair.theirs.get(), &byte, 1, MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST(UnixSocket, ThePathGetsTheModeOfTheSocket) {
  const TempDir dir;
  const mode_t before = ::umask(0);
  const UniqueFd socket = unix_socket();
  EXPECT_EQ(::fchmod(socket.get(), 0640), 0);
  EXPECT_EQ(bind_to(socket, dir.path() + "/s"), 0);
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((dir.path() + "/s").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
}

TEST(UnixSocket, IsReachedThroughADescriptorOfItsPath) {
  const TempDir dir;
  const UniqueFd listener = unix_socket();
  ASSERT_EQ(bind_to(listener, dir.path() + "/s"), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  const UniqueFd path(::open((dir.path() + "/s").c_str(), O_PATH | O_CLOEXEC));
  EXPECT_EQ(connect_to(unix_socket(), through(path)), 0);
}

TEST(UnixSocket, BindNeverFollowsALinkAtTheEndOfThePath) {
  const TempDir dir;
  ASSERT_EQ(::symlink((dir.path() + "/elsewhere").c_str(), (dir.path() + "/s").c_str()), 0);
  EXPECT_EQ(bind_to(unix_socket(), dir.path() + "/s"), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  EXPECT_NE(::access((dir.path() + "/elsewhere").c_str(), F_OK), 0);
}

TEST(UnixSocket, AFullBacklogIsAnsweredWithEAGAIN) {
  const TempDir dir;
  const UniqueFd listener = unix_socket();
  ASSERT_EQ(bind_to(listener, dir.path() + "/s"), 0);
  ASSERT_EQ(::listen(listener.get(), 0), 0);
  const UniqueFd first(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const UniqueFd second(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect_to(first, dir.path() + "/s"), 0);
  EXPECT_EQ(connect_to(second, dir.path() + "/s"), -1);
  EXPECT_EQ(errno, EAGAIN);
  const UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_EQ(connect_to(second, dir.path() + "/s"), 0) << "the same socket may try again";
}

TEST(UnixSocket, ConnectOpensNoPipeAndNoFile) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir.path() + "/pipe").c_str(), 0666), 0);
  EXPECT_EQ(connect_to(unix_socket(), dir.path() + "/pipe"), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

TEST(UnixSocket, ARenamedSocketKeepsItsIdentityAndIsReached) {
  const TempDir dir;
  const UniqueFd listener = unix_socket();
  ASSERT_EQ(bind_to(listener, dir.path() + "/a"), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  struct stat before {
  }, after{};
  ASSERT_EQ(::lstat((dir.path() + "/a").c_str(), &before), 0);
  ASSERT_EQ(::rename((dir.path() + "/a").c_str(), (dir.path() + "/b").c_str()), 0);
  ASSERT_EQ(::lstat((dir.path() + "/b").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(connect_to(unix_socket(), dir.path() + "/b"), 0);
}

TEST(UnixSocket, ABoundSocketKeepsTheInodeNumberOfItsPathInUse) {
  const TempDir dir;
  const UniqueFd first = unix_socket();
  ASSERT_EQ(bind_to(first, dir.path() + "/s"), 0);
  struct stat before {
  }, after{};
  ASSERT_EQ(::lstat((dir.path() + "/s").c_str(), &before), 0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(::unlink((dir.path() + "/s").c_str()), 0);
    ASSERT_EQ(bind_to(unix_socket(), dir.path() + "/s"), 0);
    ASSERT_EQ(::lstat((dir.path() + "/s").c_str(), &after), 0);
    ASSERT_NE(before.st_ino, after.st_ino);
  }
}

/// The namespace of the process that binds or connects does not matter.
TEST(UnixSocket, AnAbstractNameBelongsToTheNamespaceInWhichItsSocketWasMade) {
  const testing_support::TestNetns other;
  const UniqueFd listener = other.socket(AF_UNIX, SOCK_STREAM);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = "portfwd" + std::to_string(::getpid());
  name.copy(address.sun_path + 1, name.size());
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  ASSERT_EQ(::bind(listener.get(), generic, size), 0);
  ASSERT_EQ(::listen(listener.get(), 4), 0);
  EXPECT_EQ(::connect(unix_socket().get(), generic, size), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
  EXPECT_EQ(::connect(other.socket(AF_UNIX, SOCK_STREAM).get(), generic, size), 0);
}

TEST(OpenInRoot, AbsoluteLinksAndDotDotStayBelowTheRoot) {
  const TempDir dir;
  ASSERT_EQ(::symlink("/etc/passwd", (dir.path() + "/absolute").c_str()), 0);
  ASSERT_EQ(::symlink("../../../../../etc/passwd", (dir.path() + "/upwards").c_str()), 0);
  const UniqueFd root(::open(dir.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  for (const char* path : {"/absolute", "/upwards", "/../../etc/passwd"}) {
    EXPECT_EQ(::syscall(SYS_openat2, root.get(), path, &how, sizeof how), -1) << path;
    EXPECT_EQ(errno, ENOENT) << path;
  }
}

/// Any rename(2) of the machine disturbs it, so that it must be repeated.
TEST(OpenInRoot, DotDotFailsWhileFilesAreRenamed) {
  const TempDir dir, elsewhere;
  ASSERT_EQ(::mkdir((dir.path() + "/a").c_str(), 0700), 0);
  const UniqueFd root(::open(dir.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  std::atomic<bool> ended = false;
  std::thread other([&] {
    const std::string a = elsewhere.path() + "/a", b = elsewhere.path() + "/b";
    const UniqueFd file(::open(a.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    while (!ended) {
      ::rename(a.c_str(), b.c_str());
      ::rename(b.c_str(), a.c_str());
    }
  });
  bool refused = false;
  const auto limit = std::chrono::steady_clock::now() + testing_support::kDeadline;
  while (!refused && std::chrono::steady_clock::now() < limit) {
    const UniqueFd opened(
        static_cast<int>(::syscall(SYS_openat2, root.get(), "/a/..", &how, sizeof how)));
    EXPECT_TRUE(opened.valid() || errno == EAGAIN) << std::strerror(errno);
    refused = !opened.valid();
  }
  ended = true;
  other.join();
  EXPECT_TRUE(refused);
}

TEST(OpenInRoot, MagicLinksAreRefused) {
  const UniqueFd proc(::open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC));
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const std::string path = "/" + std::to_string(::getpid()) + "/root";
  EXPECT_EQ(::syscall(SYS_openat2, proc.get(), path.c_str(), &how, sizeof how), -1);
  EXPECT_EQ(errno, ELOOP);
}

}  // namespace
}  // namespace portfwd
