// The plan for one container: from listeners, requests and existing forwards to wanted forwards.
#include "forward/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "config/config_file.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr PortRange kEphemeral{32768, 60999};

Listener listener(Port port, IpAddress address = IpAddress::loopback(Family::V4)) {
  Listener l;
  l.local = {address, port};
  l.inode = port;
  return l;
}

ForwardPlace in(Port port) {
  return {Direction::In, Target(Protocol::Tcp, port)};
}

struct PlanTest : testing::Test {
  PlanTest() {
    container.id = "n1";
    container.name = "web";
  }
  void configure(const std::string& text) {
    auto read = parse_config(text, "c.toml");
    ASSERT_TRUE(read) << text_of(read.error());
    settings = std::move(*read);
  }
  ForwardRequest& ask(Port port, Direction direction = Direction::In) {
    ForwardRequest& request = requests.emplace_back();
    request.spec = {.container = "web", .target = {Protocol::Tcp, port}, .direction = direction};
    request.container_id = "n1";
    return request;
  }
  Plan make(TimePoint now = TimePoint(1h)) {
    ages.update(listeners, {TimePoint(1h), {}});
    PlanInput input{.policy = {settings, kEphemeral, metadata_policy},
                    .container = container,
                    .listeners = listeners,
                    .ages = ages,
                    .suppressed = suppressed,
                    .requests = {},
                    .existing = existing,
                    .automatic = automatic,
                    .now = now};
    for (const ForwardRequest& request : requests) input.requests.push_back(&request);
    return plan(input);
  }
  std::vector<ForwardPlace> places(TimePoint now = TimePoint(1h)) {
    std::vector<ForwardPlace> out;
    for (const auto& [place, wanted] : make(now).forwards) out.push_back(place);
    return out;
  }

  Settings settings;
  SystemClock clock;
  MetadataPolicy metadata_policy{clock};
  Container container;
  std::vector<Listener> listeners;
  ListenerAges ages;
  std::set<Target> suppressed;
  std::list<ForwardRequest> requests;
  std::vector<PlanInput::Existing> existing;
  std::size_t automatic = 0;
};

TEST_F(PlanTest, WantsEachListeningPortOnceWithAllItsListeners) {
  listeners = {listener(8080), listener(9090), listener(8080, IpAddress::loopback(Family::V6))};
  const Plan made = make();
  ASSERT_THAT(places(), ElementsAre(in(8080), in(9090)));
  EXPECT_EQ(made.forwards.at(in(8080)).listeners.size(), 2U);
  EXPECT_EQ(made.forwards.at(in(8080)).request, nullptr);
}

TEST_F(PlanTest, WantsNothingThatAPersonEndedWhileItsListenerLives) {
  listeners = {listener(8080), listener(9090)};
  suppressed = {Target(Protocol::Tcp, 8080)};
  EXPECT_THAT(places(), ElementsAre(in(9090)));
}

TEST_F(PlanTest, WantsWhatWasAskedForWithAndWithoutAListener) {
  listeners = {listener(8080)};
  const ForwardRequest& open = ask(8080);
  const ForwardRequest& waiting = ask(9090);
  const Plan made = make();
  EXPECT_EQ(made.forwards.at(in(8080)).request, &open);
  EXPECT_EQ(made.forwards.at(in(8080)).listeners.size(), 1U);
  EXPECT_EQ(made.forwards.at(in(9090)).request, &waiting);
  EXPECT_THAT(made.forwards.at(in(9090)).listeners, IsEmpty());
}

TEST_F(PlanTest, KeepsBothDirectionsOfOneTargetApart) {
  listeners = {listener(8080)};
  ask(8080, Direction::Reverse);
  EXPECT_THAT(places(),
              ElementsAre(in(8080), ForwardPlace(Direction::Reverse, Target(Protocol::Tcp, 8080))));
}

TEST_F(PlanTest, WantsAnExistingForwardWhoseListenerHasGone) {
  const Listener gone = listener(8080);
  existing = {{in(8080), &gone}};
  automatic = 1;
  const Plan made = make();
  ASSERT_THAT(places(), ElementsAre(in(8080)));
  EXPECT_THAT(made.forwards.at(in(8080)).listeners, IsEmpty());
}

TEST_F(PlanTest, WantsItNoMoreWhenARuleIgnoresIt) {
  configure("[[rule]]\nports = [8080]\non_auto_forward = \"ignore\"\n");
  const Listener gone = listener(8080);
  existing = {{in(8080), &gone}};
  listeners = {listener(8080)};
  EXPECT_THAT(places(), IsEmpty());
}

TEST_F(PlanTest, StopsAtTheLimitWithTheLowestPortsAndWhatExists) {
  configure("[host]\nmax_forwards = 2\n");
  listeners = {listener(3000), listener(1500), listener(2000)};
  const Listener last = listener(3000);
  existing = {{in(3000), &last}};
  automatic = 1;
  EXPECT_THAT(places(), ElementsAre(in(1500), in(3000)));
  EXPECT_TRUE(make().over_limit);
  listeners.pop_back();
  EXPECT_FALSE(make().over_limit);
}

TEST_F(PlanTest, CountsNoRequestAgainstTheLimit) {
  configure("[host]\nmax_forwards = 1\n");
  listeners = {listener(8080), listener(9090)};
  ask(8080);
  EXPECT_THAT(places(), ElementsAre(in(8080), in(9090)));
  EXPECT_FALSE(make().over_limit);
}

TEST_F(PlanTest, WaitsUntilAnEphemeralPortHasSettledButNotForOneThatExists) {
  listeners = {listener(40000)};
  const Plan early = make();
  EXPECT_THAT(early.forwards, IsEmpty());
  EXPECT_GT(early.settled, TimePoint(1h));
  EXPECT_THAT(places(early.settled), ElementsAre(in(40000)));
  const Listener last = listener(40000);
  existing = {{in(40000), &last}};
  EXPECT_THAT(places(), ElementsAre(in(40000)));
}

TEST_F(PlanTest, PlacesARequestWhereTheOneWhoAskedSays) {
  ForwardRequest& request = ask(8080);
  request.spec.host_port = 18080;
  request.spec.bind = "127.0.0.2";
  request.spec.label = "mine";
  const Treatment treatment = make().forwards.at(in(8080)).treatment;
  EXPECT_EQ(treatment.host_port, 18080);
  EXPECT_TRUE(treatment.require_host_port);
  EXPECT_EQ(treatment.bind, (Bind{IpAddress::v4(127, 0, 0, 2)}));
  EXPECT_EQ(treatment.label, "mine");
}

}  // namespace
}  // namespace portfwd
