// The processes that a reader without privilege reads, by their users.
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "access/process_names.h"
#include "build_paths.h"
#include "support/box.h"
#include "support/finder.h"
#include "support/hanging_fuse.h"
#include "support/sandbox.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::Box;

constexpr uid_t kUser = 61001, kOther = 61002;

/// Runs `body` as that user. @return its result
template <class Body>
int as_user(uid_t uid, Body body) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::setresuid(uid, uid, uid) == 0 ? body() : 255);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

/// Reads a process as `kUser`. @return 0 or the errno
int error_of_reading(pid_t pid) {
  return as_user(kUser, [pid] {
    const SystemClock clock;
    EventLoop loop(clock);
    Reader reader(loop, {.program = PORTFWD_BROKER_PATH});
    int error = ETIME;
    const auto call = reader.read_texts(pid, 0, [&](const Result<Reader::Texts>& texts) {
      error = texts ? 0 : texts.error().code;
    });
    reader.wait(20s);
    return error;
  });
}

TEST(ReaderRights, ReadsNoProcessOfAnotherUser) {
  const Box own = Box::of_user(kUser), others = Box::of_user(kOther), roots = Box::of_roots();
  EXPECT_EQ(error_of_reading(own.pid()), 0);
  EXPECT_EQ(error_of_reading(roots.pid()), 0) << "an engine's keeper is root's";
  EXPECT_EQ(error_of_reading(others.pid()), EACCES);
}

/// The other user's process holds the lock of its memory map forever, so that reading its command
/// line blocks.
TEST(ReaderRights, FindsContainersBesideAProcessOfAnotherUserThatHangs) {
  const testing_support::HangingFuse hanging(testing_support::HangingFuse::What::MemoryMap, kOther);
  const Box own = Box::of_user(kUser);
  const std::uint64_t netns = testing_support::netns_of(own.pid());
  EXPECT_EQ(as_user(kUser,
                    [netns] {
                      testing_support::Finder finder;
                      if (!finder.discovery.start()) return 1;
                      if (finder.wait_for(netns) == nullptr) return 2;
                      return finder.reader.timeouts() == 0 ? 0 : 3;
                    }),
            0)
      << "1: no start, 2: not found, 3: the other user's process was read";
}

/// A server that runs as uid 1000 of a user namespace of kUser with several mapped uids, and opts
/// out by its environment. Ends with the object.
class InnerServer {
 public:
  InnerServer() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    const UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    pid_ = ::fork();
    if (pid_ == 0) serve(theirs.get());
    theirs.reset();
    int number = 0;
    EXPECT_EQ(::recv(ours.get(), &number, sizeof number, 0), ssize_t{sizeof number});
    const std::string folder = "/proc/" + std::to_string(pid_);
    const std::string map = "0 " + std::to_string(kUser) + " 1\n1 200000 2000\n";
    EXPECT_EQ(testing_support::write_file((folder + "/uid_map").c_str(), map), 0);
    EXPECT_EQ(testing_support::write_file((folder + "/gid_map").c_str(), map), 0);
    ::send(ours.get(), &number, sizeof number, 0);
    EXPECT_EQ(::recv(ours.get(), &number, sizeof number, 0), ssize_t{sizeof number});
    inode_ = static_cast<std::uint32_t>(number);
    EXPECT_EQ(::recv(ours.get(), &number, sizeof number, 0), 0) << "it has executed its program";
  }
  InnerServer(const InnerServer&) = delete;
  InnerServer& operator=(const InnerServer&) = delete;
  ~InnerServer() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::uint32_t inode() const { return inode_; }

 private:
  [[noreturn]] static void serve(int peer) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    int number = ::setresgid(kUser, kUser, kUser) | ::setresuid(kUser, kUser, kUser);
    ::prctl(PR_SET_DUMPABLE, 1);
    number |= ::unshare(CLONE_NEWUSER | CLONE_NEWNET);
    ::send(peer, &number, sizeof number, 0);
    ::recv(peer, &number, sizeof number, 0);
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    struct stat about {};
    ::fstat(socket, &about);
    number = static_cast<int>(about.st_ino);
    ::listen(socket, 1);
    if (::setresgid(1000, 1000, 1000) != 0 || ::setresuid(1000, 1000, 1000) != 0) ::_exit(1);
    ::send(peer, &number, sizeof number, 0);
    std::array<char*, 2> environment{const_cast<char*>("PORTFWD=off"), nullptr};
    ::execle("/bin/sleep", "sleep", "1000", nullptr, environment.data());
    ::_exit(127);
  }

  pid_t pid_ = -1;
  std::uint32_t inode_ = 0;
};

TEST(ReaderRights, FindsTheProgramOfAnotherUserInsideAContainer) {
  const InnerServer server;
  const std::uint64_t netns = testing_support::netns_of(server.pid());
  const int outcome = as_user(kUser, [&] {
    testing_support::Finder finder;
    if (!finder.discovery.start() || finder.wait_for(netns) == nullptr) return 1;
    FoundProcessNames names({finder.loop, finder.proc, finder.reader, finder.facts,
                             finder.discovery, PORTFWD_BROKER_PATH});
    std::optional<ProcessNames::Programs> found;
    const auto search = names.find(netns, {server.inode()},
                                   [&](ProcessNames::Programs programs) { found = programs; });
    if (!finder.until([&] { return found.has_value(); })) return 2;
    if (!found->contains(server.inode())) return 3;
    const ListeningProgram& program = found->at(server.inode());
    if (program.name != "sleep" || program.command != "sleep 1000") return 4;
    return program.opted_out ? 0 : 5;
  });
  EXPECT_EQ(outcome, 0)
      << "1: no container, 2: no answer, 3: not found, 4: not named, 5: no opt-out";
}

}  // namespace
}  // namespace portfwd
