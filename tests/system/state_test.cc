// What the next life of the daemon knows of the last one, however that ended.
#include <sys/inotify.h>

#include "forward/state_file.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;

class SystemState : public SystemTest {
 protected:
  [[nodiscard]] std::optional<State> saved() const {
    std::ostringstream text;
    text << std::ifstream(file("state/portfwd/state.json")).rdbuf();
    auto state = parse_state(text.str());
    return state ? std::optional(std::move(*state)) : std::nullopt;
  }
  [[nodiscard]] bool remembers(Port container_port, Port host_port) const {
    const auto state = saved();
    return state && std::ranges::any_of(state->ports, [&](const StickyPort& p) {
             return p.target.port == container_port && p.host_port == host_port;
           });
  }
};

TEST_F(SystemState, AContainerGetsTheHostPortThatItHadFromTheNextDaemonToo) {
  UniqueFd taken = listen_at({kV4, 8080});
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  ASSERT_EQ(forward_of(8080)["host_port"], 20000);
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  EXPECT_TRUE(remembers(8080, 20000)) << "written at the end, without delay";

  taken.reset();
  start();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(forward_of(8080)["host_port"], 20000);
  EXPECT_EQ(forward_of(8080)["reason"], "it had this host port before");
}

TEST_F(SystemState, WithoutStickyNothingIsKept) {
  configure("[host]\nsticky = false\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  EXPECT_FALSE(std::filesystem::exists(file("state")));
}

TEST_F(SystemState, ADamagedFileIsSetAsideAndSaidOnce) {
  std::filesystem::create_directories(file("state/portfwd"));
  std::ofstream(file("state/portfwd/state.json")) << "{\"version\":1,\"por";
  start();
  EXPECT_EQ(lines_with("is set aside"), 1) << daemon_->err();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  EXPECT_TRUE(remembers(8080, 8080));
  start();
  EXPECT_EQ(lines_with("is set aside"), 0);
}

/// A step of writing the file, as inotify(7) tells it of state.json.new or state.json.
struct Step {
  const char* name;
  std::uint32_t event;
};

class SystemStateStep : public SystemState, public testing::WithParamInterface<Step> {};

TEST_P(SystemStateStep, KilledThenItLeavesTheOldStateOrTheNewOne) {
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(until([&] { return remembers(8080, 8080); }));
  const std::optional<State> before = saved();
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(::inotify_add_watch(watch.get(), file("state/portfwd").c_str(), GetParam().event), 0);
  ASSERT_EQ(box.open(8081), 0);
  ASSERT_TRUE(until([&] { return wait_for(watch.get(), POLLIN, 0); }));
  daemon_->signal(SIGKILL);
  EXPECT_EQ(ended(), -SIGKILL);
  EXPECT_TRUE(saved() == before || remembers(8081, 8081));

  start();
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_EQ(lines_with("is set aside"), 0) << daemon_->err();
  EXPECT_TRUE(until([&] { return remembers(8081, 8081); }));
}
INSTANTIATE_TEST_SUITE_P(At, SystemStateStep,
                         testing::Values(Step{"Creating", IN_CREATE}, Step{"Writing", IN_MODIFY},
                                         Step{"Closing", IN_CLOSE_WRITE},
                                         Step{"Renaming", IN_MOVED_TO}),
                         [](const auto& which) { return which.param.name; });

}  // namespace
}  // namespace portfwd
