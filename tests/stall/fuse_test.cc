// Files of a FUSE server that does not answer. Any user can mount such a file system in a user
// namespace, and through it keep the memory map of a process locked, so that reading the command
// line of the process blocks.
#include "stall/stall_fixture.h"
#include "support/hanging_fuse.h"
#include "support/http_server.h"
#include "support/kept_process.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct StallByFuse : StallTest {
  ~StallByFuse() override { OtherUser::stop(); }

  static void hold_memory_map(int ready, int) {
    sigset_t term;
    ::sigemptyset(&term);
    ::sigaddset(&term, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &term, nullptr);
    const HangingFuse fuse(HangingFuse::What::MemoryMap);
    const int done = 0;
    (void)!::write(ready, &done, sizeof done);
    int number = 0;
    ::sigwait(&term, &number);
  }
};

TEST_F(StallByFuse, IsNotSeenBesideAnotherUsersProcessThatCannotBeRead) {
  expect_no_stall_beside([&] {
    ASSERT_EQ(OtherUser::run(hold_memory_map), 0);
    go_on_for(3s);
  });
}

TEST_F(StallByFuse, IsNotSeenBesideASandboxsProcessThatCannotBeRead) {
  expect_no_stall_beside([&] {
    const HangingFuse fuse(HangingFuse::What::MemoryMap);
    go_on_for(3s);
  });
}

/// More such sandboxes than may be read at a time.
TEST_F(StallByFuse, IsNotSeenBesideSandboxesOfWhichNoneCanBeRead) {
  expect_no_stall_beside([&] {
    std::vector<std::unique_ptr<HangingFuse>> all;
    for (int i = 0; i < 8; ++i) {
      all.push_back(std::make_unique<HangingFuse>(HangingFuse::What::MemoryMap));
    }
    go_on_for(3s);
  });
}

/// A label may name any folder, including one that a sandbox of the user has mounted.
TEST_F(StallByFuse, IsNotSeenBesideAWorkspaceThatDoesNotAnswer) {
  const std::string id(64, 'c');
  const HangingFuse fuse(HangingFuse::What::Mount);
  const std::string folder = "/proc/" + std::to_string(fuse.pid()) + "/root" + fuse.mount();
  const HttpServer engine(loop_, engine_socket(), [&](const std::string&) {
    return HttpReply::ok(R"([{"Id":")" + id + R"(","Names":["image"],"Image":"x","Labels":)" +
                         Json{{"devcontainer.local_folder", folder + "/hang"}}.dump() +
                         R"(,"Ports":[]}])");
  });
  expect_no_stall_beside([&] {
    const std::size_t asked = engine.requests().size();
    Sandbox sandbox;
    const KeptProcess process(sandbox, id, "image");
    EXPECT_TRUE(until([&] { return engine.requests().size() > asked; }));
    go_on_for(2s);
  });
}

}  // namespace
}  // namespace portfwd
