// The state that survives a restart of the daemon, after an orderly end and after SIGKILL.
#include "state/state.h"

#include <gmock/gmock.h>
#include <sys/inotify.h>

#include <cstring>
#include <sstream>

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
             return p.target.port_number() == container_port && p.host_port == host_port;
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

/// Overwrites the process's own environment, as /proc shows it, with a text and zeros after it, as
/// setproctitle(3) does.
int write_over_environment(BoxInside&, const BoxArgument& argument) {
  std::string stat;
  std::getline(std::ifstream("/proc/self/stat"), stat);
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::vector<std::uintptr_t> numbers;  // fields from the fourth on; proc(5)
  std::string state;
  fields >> state;
  for (std::uintptr_t number = 0; fields >> number;) numbers.push_back(number);
  constexpr std::size_t kEnvStart = 50 - 4;
  const std::size_t size = std::strlen(argument.text.data());
  if (numbers.size() <= kEnvStart + 1 || numbers[kEnvStart] + size >= numbers[kEnvStart + 1]) {
    return ENOSPC;
  }
  auto* const start = reinterpret_cast<char*>(numbers[kEnvStart]);
  std::memset(start, 0, numbers[kEnvStart + 1] - numbers[kEnvStart]);
  std::memcpy(start, argument.text.data(), size);
  return 0;
}

TEST_F(SystemState, KeepsAnOptOutAcrossARestartWhenATitleReplacesIt) {
  const auto text = [](std::string_view words) {
    BoxArgument argument;
    words.copy(argument.text.data(), argument.text.size() - 1);
    return argument;
  };
  const auto decision = [&](const Box& box) -> std::string {
    const Json container = container_of(box.pid());
    if (container.is_null() || container["listeners"].empty()) return "";
    return json({"explain", container["id"], "8080"}).at("decision");
  };
  const Box box;
  ASSERT_EQ(box.tell(write_over_environment, text("PORTFWD=off")), 0);
  start();
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(until([&] { return decision(box).contains("PORTFWD=off"); })) << decision(box);
  ASSERT_EQ(box.tell(write_over_environment, text("redis-server *:8080")), 0);
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  start();
  ASSERT_TRUE(until([&] { return !decision(box).empty(); }));
  EXPECT_THAT(decision(box), testing::HasSubstr("PORTFWD=off"));
  const Box other;  // with the same title, but no earlier opt-out
  ASSERT_EQ(other.tell(write_over_environment, text("redis-server *:8081")), 0);
  ASSERT_EQ(other.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_TRUE(told("PortAdded", 8080).empty());
}

TEST_F(SystemState, WithoutStickyNoHostPortIsKept) {
  configure("[host]\nsticky = false\n");
  start();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  ASSERT_TRUE(saved()) << "for the ids of forwards";
  EXPECT_TRUE(saved()->ports.empty());
}

TEST_F(SystemState, ADamagedFileIsSetAsideAndSaidOnce) {
  std::filesystem::create_directories(file("state/portfwd"));
  std::ofstream(file("state/portfwd/state.json")) << "{\"version\":1,\"por";
  start();
  EXPECT_EQ(lines_with("state.json.damaged"), 1) << daemon_->err();
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  ASSERT_TRUE(wait_for_added(8080));
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  EXPECT_TRUE(remembers(8080, 8080));
  start();
  EXPECT_EQ(lines_with("state.json.damaged"), 0);
}

TEST_F(SystemState, KeepsAFileOfANewerVersionAndTellsSo) {
  std::filesystem::create_directories(file("state/portfwd"));
  const std::string newer = R"({"version":2,"ports":{}})";
  std::ofstream(file("state/portfwd/state.json")) << newer;
  start();
  EXPECT_EQ(lines_with("newer portfwd"), 1) << daemon_->err();
  EXPECT_THAT(json({"status"}).at("state_file"), testing::HasSubstr("newer"));
  ASSERT_EQ(ctl({"forward", "--allow-missing", "shop", "9000:19000", "--persist"}).status, 0);
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  std::ostringstream text;
  text << std::ifstream(file("state/portfwd/state.json")).rdbuf();
  EXPECT_EQ(text.str(), newer);
}

/// A file takes the place of the folder, so that not even root can write there.
TEST_F(SystemState, ReportsAFailedSaveAndRetriesAtReload) {
  start();
  EXPECT_EQ(json({"status"}).at("state_file"), "ok");
  std::ofstream(file("state")) << "in the way";
  ASSERT_EQ(ctl({"forward", "--allow-missing", "shop", "9000:19000", "--persist"}).status, 0);
  ASSERT_TRUE(until([&] { return json({"status"}).at("state_file") != "ok"; }));
  EXPECT_THAT(json({"status"}).at("state_file"), testing::HasSubstr("Not a directory"));
  std::filesystem::remove(file("state"));
  ASSERT_EQ(ctl({"reload"}).status, 0);
  ASSERT_TRUE(until([&] { return json({"status"}).at("state_file") == "ok"; }));
  const auto state = saved();
  ASSERT_TRUE(state);
  EXPECT_EQ(state->forwards.size(), 1U);
  EXPECT_EQ(lines_with("cannot write"), 1) << daemon_->err();
}

TEST_F(SystemState, RestoresAPersistentForward) {
  start();
  Box box;
  ASSERT_EQ(ctl({"attach", "--pid", std::to_string(box.pid()), "--name", "shop"}).status, 0);
  ASSERT_EQ(ctl({"forward", "shop", "9000:19000", "--label", "mine", "--persist"}).status, 0);
  ASSERT_EQ(ctl({"forward", "shop", "5432:15432", "--reverse", "--persist"}).status, 0);
  ASSERT_EQ(ctl({"forward", "shop", "9001:19001"}).status, 0);
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  box.end();

  start();
  const Json waiting = forward_of(9000);
  EXPECT_EQ(waiting["state"], "waiting");
  EXPECT_EQ(waiting["origin"], "manual");
  EXPECT_EQ(waiting["label"], "mine");
  EXPECT_EQ(waiting["host_port"], 19000);
  EXPECT_EQ(forward_of(5432)["state"], "waiting");
  EXPECT_EQ(forward_of(9001), nullptr) << "nobody wanted it kept";
  const UniqueFd early = connect_to_port({kV4, 19000});
  for (int time = 1; time <= 2; ++time) {  // its containers come and go
    Box next;
    ASSERT_EQ(ctl({"attach", "--pid", std::to_string(next.pid()), "--name", "shop"}).status, 0);
    ASSERT_EQ(next.open(9000), 0);
    if (time == 1) {
      EXPECT_EQ(read_line(early), "9000 here\n");
    }
    EXPECT_TRUE(until([&] { return forward_of(9000)["state"] == "active"; }));
    EXPECT_TRUE(until([&] { return forward_of(5432)["state"] == "active"; }));
    next.end();
    ASSERT_TRUE(until([&] { return forward_of(9000)["state"] == "waiting"; }));
  }
  ASSERT_EQ(ctl({"unforward", "19000"}).status, 0);
  daemon_->signal(SIGTERM);
  ASSERT_EQ(ended(), 0);
  start();
  EXPECT_EQ(json({"list"}).size(), 1U) << "what was ended stays ended";
  EXPECT_EQ(forward_of(5432)["direction"], "reverse");
}

TEST_F(SystemState, AKeptForwardWhoseHostPortIsTakenIsAConflictUntilItIsFree) {
  start();
  ASSERT_EQ(ctl({"forward", "shop", "9000:19000", "--persist", "--allow-missing"}).status, 0);
  ASSERT_TRUE(until([&] { return saved() && saved()->forwards.size() == 1; }));
  daemon_->signal(SIGKILL);
  EXPECT_EQ(ended(), -SIGKILL);
  UniqueFd taken = listen_at({kV4, 19000});
  start();
  EXPECT_EQ(forward_of(9000)["state"], "conflict");
  EXPECT_EQ(forward_of(9000)["reason"], "port 19000 is held by system_tests");
  taken.reset();
  EXPECT_TRUE(until([&] { return forward_of(9000)["state"] == "waiting"; }));
}

TEST_F(SystemState, RejectsPersistWithWhileConnected) {
  start();
  const auto made = bus().manager("Forward", "ssa{sv}", "shop", "9000", 3, "persist", "b", 1,
                                  "while_connected", "b", 1, "allow_missing", "b", 1);
  EXPECT_EQ(made.error, "org.portfwd1.Error.InvalidArgument") << made.text;
}

/// A step of writing the file, as inotify(7) reports it for state.json.new or state.json.
struct Step {
  const char* name;
  std::uint32_t event;
};

class SystemStateStep : public SystemState, public testing::WithParamInterface<Step> {};

TEST_P(SystemStateStep, LeavesTheOldOrTheNewStateWhenKilled) {
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
  EXPECT_EQ(lines_with("state.json.damaged"), 0) << daemon_->err();
  EXPECT_TRUE(until([&] { return remembers(8081, 8081); }));
}
INSTANTIATE_TEST_SUITE_P(At, SystemStateStep,
                         testing::Values(Step{"Creating", IN_CREATE}, Step{"Writing", IN_MODIFY},
                                         Step{"Closing", IN_CLOSE_WRITE},
                                         Step{"Renaming", IN_MOVED_TO}),
                         [](const auto& which) { return which.param.name; });

}  // namespace
}  // namespace portfwd
