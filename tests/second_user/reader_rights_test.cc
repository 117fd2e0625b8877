// Whose processes a reader reads, when it has no privilege.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "broker/client/reader.h"
#include "support/box.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::Box;

constexpr uid_t kUser = 61001, kOther = 61002;

/// @return 0 if it was read, else the errno; as `kUser` sees it
int error_of_reading(pid_t pid) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(kUser, kUser, kUser) != 0) ::_exit(255);
    const SystemClock clock;
    EventLoop loop(clock);
    Reader reader(loop, {.program = PORTFWD_BROKER_PATH});
    int error = ETIME;
    const auto call = reader.read_texts(pid, 0, [&](const Result<Reader::Texts>& texts) {
      error = texts ? 0 : texts.error().code;
    });
    reader.wait(20s);
    ::_exit(error);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST(ReaderRights, ReadsNoProcessOfAnotherUser) {
  const Box own = Box::of_user(kUser), others = Box::of_user(kOther), roots = Box::of_roots();
  EXPECT_EQ(error_of_reading(own.pid()), 0);
  EXPECT_EQ(error_of_reading(roots.pid()), 0) << "an engine's keeper is root's";
  EXPECT_EQ(error_of_reading(others.pid()), EACCES);
}

}  // namespace
}  // namespace portfwd
