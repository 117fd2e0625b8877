// Identity across restarts of the daemon, after an orderly end and after SIGKILL: the ids of
// forwards and of containers that still exist, and the numbers of events.
#include <gmock/gmock.h>

#include <list>
#include <map>
#include <set>
#include <sstream>

#include "state/state.h"
#include "support/system_fixture.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::AnyOf;
using testing::ElementsAre;

class SystemIdentity : public SystemTest {
 protected:
  void end(int signal) {
    daemon_->signal(signal);
    EXPECT_EQ(ended(), signal == SIGTERM ? 0 : -signal);
  }
  std::string instance() { return json({"status"}).at("instance_id"); }
  /// The greatest number of a signal received since start().
  [[nodiscard]] std::uint64_t last_number() {
    std::uint64_t last = 0;
    for (const auto& signal : bus().signals()) {
      if (signal.body.size() < 2 || !signal.body[1].contains("Sequence")) continue;
      last = std::max(last, signal.body[1]["Sequence"].get<std::uint64_t>());
    }
    return last;
  }
  Json events_after(std::uint64_t number) {
    return json({"events", "--since", "#" + std::to_string(number)});
  }
  /// @return the type and the port or container id of each event
  static std::vector<std::string> summary(const Json& events) {
    std::vector<std::string> out;
    for (const Json& event : events) {
      std::string line = event["type"];
      if (event.contains("forward")) line += " " + event["forward"]["target"].get<std::string>();
      if (event.contains("container")) line += " " + event["container"]["id"].get<std::string>();
      out.push_back(std::move(line));
    }
    return out;
  }
  static void expect_no_gap(const Json& events, std::uint64_t after) {
    for (const Json& event : events) EXPECT_EQ(event["seq"], ++after) << events.dump();
  }
  [[nodiscard]] std::optional<State> saved() const {
    std::ostringstream text;
    text << std::ifstream(file("state/portfwd/state.json")).rdbuf();
    auto state = parse_state(text.str());
    return state ? std::optional(std::move(*state)) : std::nullopt;
  }
  /// Waits until the state on disk has all events.
  bool wait_until_saved() {
    const std::uint64_t next = last_number() + 1;
    return until([&] { return saved() && saved()->instance.next_event == next; });
  }
};

TEST_F(SystemIdentity, KeepsIdsAndNumbersAcrossAnOrderlyRestart) {
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(wait_for_added(8080));
  ASSERT_EQ(ctl({"forward", "--allow-missing", "shop", "9000:19000", "--persist"}).status, 0);
  ASSERT_TRUE(wait_for_added(9000));
  const std::string before = instance();
  const Json container = container_of(box.pid());
  const Json forward = forward_of(8080);
  const Json kept = forward_of(9000);
  end(SIGTERM);
  ASSERT_TRUE(wait_for_removed(8080));
  const std::uint64_t last = last_number();
  ASSERT_GE(last, 5U) << "a container, and two forwards that came and went";

  start();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(instance(), before);
  EXPECT_EQ(container_of(box.pid())["id"], container["id"]);
  EXPECT_EQ(forward_of(8080)["id"], forward["id"]);
  EXPECT_EQ(forward_of(9000)["id"], kept["id"]);
  const Json events = events_after(last);
  EXPECT_THAT(summary(events), ElementsAre("PortAdded 9000", "PortAdded 8080"))
      << "the container has stayed";
  expect_no_gap(events, last);
  const Json older = events_after(last - 2);
  EXPECT_EQ(older[0]["type"], "Gap") << "those of the life before are forgotten";
  EXPECT_EQ(older[0]["seq"], last);
  EXPECT_EQ(older.size(), 3U);

  const Box other;  // a new container, with new ids
  ASSERT_EQ(other.open(8081), 0);
  ASSERT_TRUE(wait_for_added(8081));
  EXPECT_NE(container_of(other.pid())["id"], container["id"]);
  EXPECT_THAT(forward_of(8081)["id"], testing::Not(AnyOf(forward["id"], kept["id"])));
}

TEST_F(SystemIdentity, KeepsIdsAcrossSIGKILLAndEmitsAGap) {
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(wait_for_added(8080));
  const std::string before = instance();
  const Json container = container_of(box.pid());
  const Json forward = forward_of(8080);
  const std::uint64_t last = last_number();
  ASSERT_TRUE(wait_until_saved());
  end(SIGKILL);

  start();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(instance(), before);
  EXPECT_EQ(container_of(box.pid())["id"], container["id"]);
  EXPECT_EQ(forward_of(8080)["id"], forward["id"]);
  const Json events = events_after(last);
  EXPECT_THAT(summary(events), ElementsAre("Gap", "PortAdded 8080"))
      << "nobody was told that the forward went";
  expect_no_gap(events, last);
}

/// Kills the daemon repeatedly, at different moments, also before anything is on the disk.
TEST_F(SystemIdentity, NeverReusesANumberOrAnId) {
  std::set<std::uint64_t> numbers;
  std::map<std::string, std::string> forwards;  // container and target of each id
  std::map<std::string, pid_t> containers;
  std::string first;
  std::list<Box> boxes;
  for (Port port = 8080; port < 8086; ++port) {
    boxes.emplace_back();
    ASSERT_EQ(boxes.back().open(port), 0);
    start();
    ASSERT_TRUE(wait_for_added(port));
    if (first.empty()) first = instance();
    EXPECT_EQ(instance(), first);
    for (const Json& f : json({"list"})) {
      const std::string id = f["id"];
      const std::string what = f["container"]["id"].get<std::string>() + " " + f["target"].dump();
      EXPECT_EQ(forwards.try_emplace(id, what).first->second, what) << id;
    }
    for (const Json& c : json({"containers", "--all"})) {
      const std::string id = c["id"];
      EXPECT_EQ(containers.try_emplace(id, c["pid"]).first->second, c["pid"]) << id;
    }
    boxes.emplace_back();  // its events occur while the daemon is killed
    ASSERT_EQ(boxes.back().open(static_cast<Port>(port + 1000)), 0);
    const auto beside = static_cast<Port>(port + 1000);
    ASSERT_TRUE(port % 2 != 0 || wait_for_added(beside));
    end(SIGKILL);
    for (const auto& signal : bus().signals()) {
      if (signal.body.size() < 2 || !signal.body[1].contains("Sequence")) continue;
      EXPECT_TRUE(numbers.insert(signal.body[1]["Sequence"].get<std::uint64_t>()).second)
          << signal.body.dump();
    }
  }
  EXPECT_GE(numbers.size(), 12U);
}

TEST_F(SystemIdentity, ReportsAContainerThatEndedMeanwhile) {
  Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(wait_for_added(8080));
  const std::string id = container_of(box.pid())["id"];
  end(SIGTERM);
  ASSERT_TRUE(wait_for_removed(8080));
  const std::uint64_t last = last_number();
  box.end();
  start();
  ASSERT_TRUE(until([&] { return bus().saw("ContainerRemoved"); }));
  const Json events = events_after(last);
  EXPECT_THAT(summary(events), ElementsAre("ContainerRemoved " + id));
  expect_no_gap(events, last);
  EXPECT_EQ(events[0]["reason"], "container-gone");
}

/// As after a reboot, which removes the runtime folder.
TEST_F(SystemIdentity, StartsANewInstanceWithoutItsNumbers) {
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(wait_for_added(8080));
  const std::string before = instance();
  const Json container = container_of(box.pid());
  const Json forward = forward_of(8080);
  end(SIGTERM);
  std::filesystem::remove_all(file("run"));
  start();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_NE(instance(), before);
  EXPECT_EQ(container_of(box.pid())["id"], container["id"]) << "it lives on";
  EXPECT_EQ(forward_of(8080)["id"], forward["id"]);
  const Json events = events_after(0);
  EXPECT_THAT(summary(events), ElementsAre("ContainerAdded " + container["id"].get<std::string>(),
                                           "PortAdded 8080"));
  expect_no_gap(events, 0);
}

TEST_F(SystemIdentity, ADamagedStateCostsIdsButNoNumbers) {
  const Box box;
  ASSERT_EQ(box.open(8080), 0);
  start();
  ASSERT_TRUE(wait_for_added(8080));
  const std::string before = instance();
  const Json forward = forward_of(8080);
  end(SIGTERM);
  ASSERT_TRUE(wait_for_removed(8080));
  const std::uint64_t last = last_number();
  std::ofstream(file("state/portfwd/state.json")) << "{\"version\":1,\"por";
  start();
  ASSERT_TRUE(wait_for_added(8080));
  EXPECT_EQ(instance(), before);
  EXPECT_NE(forward_of(8080)["id"], forward["id"]);
  const Json events = events_after(last);
  EXPECT_EQ(events[0]["type"], "Gap");
  expect_no_gap(events, last);
}

}  // namespace
}  // namespace portfwd
