// What a broker does at paths while another thread exchanges files and folders there: it never
// leaves the root, and never replaces or removes a file of another owner.
#include <linux/fs.h>
#include <sched.h>
#include <sys/syscall.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <thread>

#include "support/deadline.h"
#include "support/unix_sockets_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

using UnixRacesTest = UnixSocketsTest;

/// Turns of each race; more with PORTFWD_TRAP_TURNS.
int turns() {
  const char* set = std::getenv("PORTFWD_TRAP_TURNS");
  return set != nullptr ? std::atoi(set) : 500;
}

int swap_paths(const std::string& a, const std::string& b) {
  return static_cast<int>(
      ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE));
}

/// Runs `disturb` in another thread again and again while `turn` runs turns() times.
template <class Disturb, class Turn>
void race(Disturb disturb, Turn turn) {
  std::atomic<bool> ended = false;
  std::thread other([&] {
    while (!ended) disturb();
  });
  for (int i = 0; i < turns() && !testing::Test::HasFailure(); ++i) turn();
  ended = true;
  other.join();
}

/// The folder of the path is, in turn, one inside and a link to one of the host.
TEST_F(UnixRacesTest, NeverBindsOutsideWhileItsFolderIsExchanged) {
  const UniqueFd live = socket_at(host("/s"));
  const FileId victim = id_of(host("/s"));
  fs::create_directory(inside("/f"));
  fs::create_symlink(host(""), inside("/g"));
  int bound = 0;
  race([&] { swap_paths(inside("/f"), inside("/g")); },
       [&] {
         const auto made = listen("/f/s");
         if (made.error == 0) {
           ++bound;
           (void)remove(made.bound);
           (void)remove({UnixPath{"/g/s"}, made.bound.made});
         }
         (void)remove({UnixPath{"/f/s"}, {.file = victim}});
         (void)connect("/f/s");
       });
  EXPECT_GT(bound, 0) << "nothing was tested";
  EXPECT_EQ(id_of(host("/s")), victim);
  EXPECT_FALSE(has_client(live));
  EXPECT_EQ(std::distance(fs::directory_iterator(host("")), {}), 1);
}

/// The last component is, in turn, a socket inside and a link to one of the host.
TEST_F(UnixRacesTest, NeverDialsOutsideWhileThePathIsExchanged) {
  const UniqueFd live = socket_at(host("/s"));
  const UniqueFd server = socket_at(inside("/run/s"));
  fs::create_symlink(host("/s"), inside("/run/t"));
  EXPECT_EQ(::mkfifo(inside("/run/pipe").c_str(), 0666), 0);
  std::set<int> errors;
  race(
      [&] {
        swap_paths(inside("/run/s"), inside("/run/t"));
        swap_paths(inside("/run/s"), inside("/run/pipe"));
      },
      [&] {
        errors.insert(connect("/run/s"));
        while (has_client(server)) {
        }
      });
  EXPECT_FALSE(has_client(live));
  for (const int error : errors) {
    EXPECT_TRUE(error == 0 || error == ENOENT || error == ENOTSOCK || error == EAGAIN) << error;
  }
}

/// The kernel refuses ".." below a root while files are renamed, wherever they are.
TEST_F(UnixRacesTest, DialsUpwardsWhileFilesAreRenamed) {
  fs::create_directories(inside("/a/b"));
  const UniqueFd server = socket_at(inside("/run/s"));
  std::ofstream(host("/x"));
  std::ofstream(host("/y"));
  race([&] { swap_paths(host("/x"), host("/y")); },
       [&] {
         EXPECT_EQ(connect("/a/b/../../run/../a/../run/s"), 0);
         EXPECT_TRUE(has_client(server));
       });
}

/// A foreign socket takes the place of ours again and again: it is never removed or replaced.
TEST_F(UnixRacesTest, NeverRemovesAForeignSocketThatTakesTheName) {
  const std::string path = inside("/run/s");
  const UniqueFd foreign = socket_at(inside("/foreign"));
  const FileId id = id_of(inside("/foreign"));
  std::atomic<int> swaps = 0;
  race([&] { swaps += swap_paths(path, inside("/foreign")) == 0 ? 1 : 0; },
       [&] {
         // The socket is bound under the name, exchanged with the foreign one, and removed by the
         // identity that it had.
         const auto made = listen("/run/s");
         if (made.error != 0) return;
         const auto next = listen("/run/s", {.replace = made.bound.made.file});
         (void)remove(made.bound);
         if (next.error == 0) (void)remove(next.bound);
         (void)remove({UnixPath{"/foreign"}, made.bound.made});
         (void)remove({UnixPath{"/foreign"}, next.bound.made});
       });
  EXPECT_EQ(count_of(id), 1) << "after " << swaps << " exchanges";
  EXPECT_FALSE(has_client(foreign));
}

/// A server that restarts removes what has its name and binds.
TEST_F(UnixRacesTest, NeverRemovesAServerThatTakesTheName) {
  const std::string path = inside("/run/s");
  std::atomic<int> lost = 0, bound = 0;
  race(
      [&] {
        ::unlink(path.c_str());
        const UniqueFd server = socket_at(path);
        if (!server.valid()) return;
        ++bound;
        // The broker may have renamed it for a moment, before it sees that it is another one.
        const auto limit = std::chrono::steady_clock::now() + testing_support::kDeadline;
        bool reached = false;
        while (!reached && std::chrono::steady_clock::now() < limit) {
          reached = connect_to(path) == 0 && has_client(server);
        }
        if (!reached) ++lost;
      },
      [&] {
        const auto made = listen("/run/s");
        if (made.error == 0) (void)remove(made.bound);
      });
  EXPECT_EQ(lost, 0);
  EXPECT_GT(bound, 0);
  ::unlink(path.c_str());
  // A server that ended while the broker had its file in hand could not remove it.
  for (const std::string& name : entries()) {
    EXPECT_TRUE(name.starts_with(".portfwd-") && fs::is_socket(inside("/run/" + name))) << name;
  }
}

/// Folders that the broker has made are exchanged with an empty one of another owner.
TEST_F(UnixRacesTest, NeverRemovesForeignFoldersThatTakeTheName) {
  fs::create_directories(inside("/other"));
  const FileId id = id_of(inside("/other"));
  std::mutex cleaning;
  race(
      [&] {
        const std::lock_guard lock(cleaning);
        swap_paths(inside("/run/new"), inside("/other"));
      },
      [&] {
        const auto made = listen("/run/new/s", {.make_parents = true});
        if (made.error == 0) (void)remove(made.bound);
        const std::lock_guard lock(cleaning);
        for (const char* name : {"/run/new", "/other"}) {  // what stayed after an exchange
          if (id_of(inside(name)) != id) fs::remove_all(inside(name));
        }
      });
  EXPECT_EQ(count_of(id), 1);
}

TEST_F(UnixRacesTest, LeavesNoGapWhenItReplaces) {
  auto current = listen("/run/s", {.backlog = 512});
  std::atomic<bool> ended = false;
  std::atomic<int> missed = 0;
  std::thread client([&] {
    while (!ended) {
      const int error = connect_to(inside("/run/s"));
      // The old socket is closed while it is still in a client's hands, or its backlog is full.
      if (error != 0 && error != ECONNREFUSED && error != EAGAIN) missed = error;
    }
  });
  for (int i = 0; i < turns(); ++i) {
    auto next = listen("/run/s", {.backlog = 512, .replace = current.bound.made.file});
    EXPECT_EQ(next.error, 0);
    current = std::move(next);
  }
  ended = true;
  client.join();
  EXPECT_EQ(missed, 0) << "the path was missing";
}

}  // namespace
}  // namespace portfwd
