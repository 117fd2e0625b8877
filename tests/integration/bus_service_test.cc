// The daemon's D-Bus service on a real bus, with a scripted Control.
#include "dbus/bus_service.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "support/bus_client.h"
#include "support/served_bus.h"

namespace portfwd {
namespace {

using namespace testing_support;

constexpr const char* kForward = "org.portfwd1.Forward";
constexpr const char* kContainer = "org.portfwd1.Container";
constexpr const char* kWebPath = "/org/portfwd1/forward/f_2d1";  // sd_bus_path_encode("f-1")

class BusServiceTest : public ServedBusTest {
 protected:
  void serve() {
    ServedBusTest::serve();
    client_ = std::make_unique<BusClient>(loop_, bus_.address());
    client_->listen();
  }
  bool until(const std::function<bool()>& done) { return turn_until(loop_, done); }
  bool until_seen(const std::string& member) {
    return until([&] { return client_->saw(member); });
  }

  std::unique_ptr<BusClient> client_;
};

TEST_F(BusServiceTest, WhatIsThereBeforeTheNameIsOwnedIsOnTheBus) {
  control_.all_forwards = {web_forward()};
  control_.all_containers = {web_container()};
  serve();
  const Json objects = client_->managed_objects();
  ASSERT_TRUE(objects.contains(kWebPath)) << objects;
  EXPECT_EQ(objects[kWebPath][kForward]["HostPort"], 8080);
  const Json container = objects["/org/portfwd1/container/c_5f1"][kContainer];
  EXPECT_EQ(container["Name"], "web");
  EXPECT_EQ(container["Listeners"][0]["Port"], 8080);
  const Json manager = client_->properties("/org/portfwd1", "org.portfwd1.Manager");
  EXPECT_EQ(manager["Forwards"], 1);
  EXPECT_EQ(manager["Containers"], 1);
  EXPECT_EQ(manager["InstanceId"], "instance");
  EXPECT_EQ(manager["PollIntervalUSec"], 20000);
}

TEST_F(BusServiceTest, AForwardHasThePropertiesOfTheContract) {
  control_.all_forwards = {web_forward()};
  serve();
  const Json expected = {
      {"Id", "f-1"},
      {"Container", "/org/portfwd1/container/c_5f1"},
      {"ContainerId", "c_1"},
      {"ContainerName", "web"},
      {"ContainerEngine", "podman"},
      {"Protocol", "tcp"},
      {"Direction", "in"},
      {"Target", "8080"},
      {"ContainerAddress", "127.0.0.1"},
      {"ContainerPort", 8080},
      {"ContainerPath", ""},
      {"SocketType", ""},
      {"HostAddress", "127.0.0.1"},
      {"HostAddresses", {"127.0.0.1", "::1"}},
      {"HostPort", 8080},
      {"HostPath", ""},
      {"Origin", "auto"},
      {"State", "active"},
      {"Reason", ""},
      {"Label", ""},
      {"Process", "nginx"},
      {"Url", "http://127.0.0.1:8080/"},
      {"OnAutoForward", "notify"},
      {"Since", 1767268800123456},
      {"ConnectionsActive", 1},
      {"ConnectionsTotal", 12},
      {"ConnectionsFailed", 2},
      {"ConnectionsRefused", 3},
      {"BytesIn", 123},
      {"BytesOut", 456},
  };
  EXPECT_EQ(client_->properties(kWebPath, kForward), expected);
}

TEST_F(BusServiceTest, AForwardComesAndGoesWithNumberedSignals) {
  serve();
  control_.add(web_forward());
  ASSERT_TRUE(until_seen("PortAdded"));
  const auto added = client_->signals("PortAdded")[0];
  EXPECT_EQ(added.body[0], kWebPath);
  EXPECT_EQ(added.body[1]["Sequence"], 1);
  EXPECT_EQ(added.body[1]["BatchSize"], 1);
  EXPECT_EQ(added.body[1]["BatchIndex"], 0);
  EXPECT_EQ(added.body[1]["OnAutoForward"], "notify");
  EXPECT_EQ(added.body[1]["ContainerName"], "web");
  EXPECT_EQ(client_->signals().front().member, "InterfacesAdded") << "the object comes first";

  control_.remove_forward("f-1", "listener-closed");
  ASSERT_TRUE(until_seen("PortRemoved"));
  const auto removed = client_->signals("PortRemoved")[0];
  EXPECT_EQ(removed.body[0], kWebPath);
  EXPECT_EQ(removed.body[1]["Sequence"], 2);
  EXPECT_EQ(removed.body[1]["Reason"], "listener-closed");
  EXPECT_TRUE(client_->saw("InterfacesRemoved"));
  EXPECT_FALSE(client_->managed_objects().contains(kWebPath));
}

/// Except the lists of a container, which may be long.
TEST_F(BusServiceTest, AnEventCarriesEveryPropertyOfItsObject) {
  serve();
  control_.add(web_forward());
  control_.add(web_container());
  ASSERT_TRUE(until_seen("ContainerAdded"));
  const auto expect_all_of = [&](Json properties, const Json& event) {
    for (const char* list : {"Labels", "Listeners", "ListenersTotal", "Published"}) {
      properties.erase(list);
      EXPECT_FALSE(event.contains(list)) << list;
    }
    for (const auto& [name, value] : properties.items()) {
      EXPECT_EQ(event.value(name == "Reason" ? "StateReason" : name, Json()), value) << name;
    }
    EXPECT_EQ(event.size(), properties.size() + 5) << event;
  };
  expect_all_of(client_->properties(kWebPath, kForward), client_->signals("PortAdded")[0].body[1]);
  expect_all_of(client_->properties("/org/portfwd1/container/c_5f1", kContainer),
                client_->signals("ContainerAdded")[0].body[1]);
}

TEST_F(BusServiceTest, ChangesOfOneTurnAreOneSignal) {
  control_.all_forwards = {web_forward()};
  serve();
  ForwardInfo forward = web_forward();
  forward.state = ForwardState::Lingering;
  control_.change(forward);
  forward.state = ForwardState::Active;
  forward.process = "apache";
  forward.counters.total = 99;
  control_.change(forward);
  ASSERT_TRUE(until_seen("PropertiesChanged"));
  const auto changes = client_->signals("PropertiesChanged");
  ASSERT_EQ(changes.size(), 1U);
  EXPECT_EQ(changes[0].path, kWebPath);
  EXPECT_EQ(changes[0].body[1], Json({{"Process", "apache"}}))
      << "neither what is as before nor counters";
}

/// Without the signal, a client that caches properties would keep the old value.
TEST_F(BusServiceTest, AnnouncesThatADetectedForwardIsAPersonsNow) {
  control_.all_forwards = {web_forward()};
  serve();
  ForwardInfo forward = web_forward();
  ASSERT_EQ(forward.origin, Origin::Auto);
  forward.origin = Origin::Manual;
  control_.change(forward);
  ASSERT_TRUE(until_seen("PropertiesChanged"));
  EXPECT_EQ(client_->signals("PropertiesChanged")[0].body[1], Json({{"Origin", "manual"}}));
}

TEST_F(BusServiceTest, CountersAreAsOfTheMomentTheyAreRead) {
  control_.all_forwards = {web_forward()};
  serve();
  control_.all_forwards[0].counters.bytes_in = 7777;  // the observer is not notified
  EXPECT_EQ(client_->properties(kWebPath, kForward)["BytesIn"], 7777);
  EXPECT_FALSE(client_->saw("PropertiesChanged"));
}

TEST_F(BusServiceTest, TellsTheCountersOfAllForwardsInOneCall) {
  control_.all_forwards = {web_forward(), web_forward("f-2")};
  serve();
  control_.all_forwards[0].counters = {1, 2, 3, 4, 5, 6};
  control_.all_forwards[1].counters = {.total = 9};
  const Json rows = client_->manager("GetCounters").body[0];
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0], Json::array({kWebPath, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(rows[1], Json::array({"/org/portfwd1/forward/f_2d2", 0, 9, 0, 0, 0, 0}));
}

TEST_F(BusServiceTest, AForwardClosesItselfWhileItsOwnHandlerRuns) {
  control_.all_forwards = {web_forward()};
  serve();
  EXPECT_EQ(client_->call(kWebPath, kForward, "Close").error, "");
  EXPECT_EQ(control_.asked.target, "f-1");
  EXPECT_EQ(client_->managed_objects(), Json::object());
  EXPECT_EQ(client_->call(kWebPath, kForward, "Close").error,
            "org.freedesktop.DBus.Error.UnknownObject");
}

TEST_F(BusServiceTest, EveryRefusalHasItsErrorName) {
  serve();
  using Kind = Refusal::Kind;
  const std::vector<std::pair<Kind, std::string>> names = {
      {Kind::NoSuchContainer, "org.portfwd1.Error.NoSuchContainer"},
      {Kind::NoSuchForward, "org.portfwd1.Error.NoSuchForward"},
      {Kind::Ambiguous, "org.portfwd1.Error.Ambiguous"},
      {Kind::PortInUse, "org.portfwd1.Error.PortInUse"},
      {Kind::Inaccessible, "org.portfwd1.Error.Inaccessible"},
      {Kind::InvalidArgument, "org.portfwd1.Error.InvalidArgument"},
      {Kind::LimitExceeded, "org.portfwd1.Error.LimitExceeded"},
      {Kind::Failed, "org.freedesktop.DBus.Error.Failed"},
  };
  for (const auto& [kind, name] : names) {
    control_.refusal = {kind, "do something else: \xff"};
    const auto reply = client_->manager("Forward", "ssa{sv}", "web", "8080", 0);
    EXPECT_EQ(reply.error, name);
    EXPECT_EQ(reply.text, "do something else: ?");
  }
}

TEST_F(BusServiceTest, AllOptionsOfAForwardArrive) {
  serve();
  const auto reply =
      client_->manager("Forward", "ssa{sv}", "web", "8080/udp", 7, "host_port", "q", 18080, "bind",
                       "s", "localhost", "container_address", "s", "::1", "label", "s", "mine",
                       "persist", "b", 1, "allow_missing", "b", 1, "direction", "s", "reverse");
  EXPECT_EQ(reply.error, "") << reply.text;
  EXPECT_EQ(reply.body[0], "/org/portfwd1/forward/made");
  EXPECT_EQ(control_.asked.container, "web");
  EXPECT_EQ(control_.asked.target, "8080/udp");
  const ForwardSpec& spec = control_.asked.spec;
  EXPECT_EQ(spec.host_port, 18080);
  EXPECT_EQ(spec.bind, "localhost");
  EXPECT_EQ(spec.container_address, "::1");
  EXPECT_EQ(spec.label, "mine");
  EXPECT_TRUE(spec.persist && spec.allow_missing);
  EXPECT_EQ(spec.direction, Direction::Reverse);
  EXPECT_EQ(control_.asked.lifeline, "");
}

TEST_F(BusServiceTest, AnOptionThatIsNotUnderstoodIsNamed) {
  serve();
  const auto expect_named = [&](const char* key, const char* type, auto value) {
    const auto reply = client_->manager("Forward", "ssa{sv}", "web", "8080", 1, key, type, value);
    EXPECT_EQ(reply.error, "org.portfwd1.Error.InvalidArgument");
    EXPECT_NE(reply.text.find(key), std::string::npos) << reply.text;
  };
  expect_named("hostport", "q", 80);
  expect_named("host_port", "s", "80");
  expect_named("host_port", "q", 0);
  expect_named("persist", "u", 1);
  expect_named("direction", "s", "sideways");
  EXPECT_EQ(control_.asked.what, "") << "nothing of it reached the daemon";
}

TEST_F(BusServiceTest, AForwardMayEndWithItsCallersConnection) {
  serve();
  auto other = std::make_unique<BusClient>(loop_, bus_.address());
  const std::string name = other->unique_name();
  EXPECT_EQ(other->manager("Forward", "ssa{sv}", "web", "80", 1, "while_connected", "b", 1).error,
            "");
  EXPECT_EQ(control_.asked.lifeline, name);
  EXPECT_TRUE(control_.ended_lifelines.empty());
  other.reset();
  ASSERT_TRUE(until([&] { return !control_.ended_lifelines.empty(); }));
  EXPECT_EQ(control_.ended_lifelines, std::vector{name});
}

TEST_F(BusServiceTest, ANamespaceIsHandedOverAsADescriptor) {
  serve();
  const UniqueFd netns(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const auto reply = client_->manager("AttachNetns", "hs", netns.get(), "here");
  EXPECT_EQ(reply.error, "") << reply.text;
  EXPECT_EQ(reply.body[0], "/org/portfwd1/container/attached");
  EXPECT_EQ(control_.asked.container, "here");
  struct stat ours {};
  struct stat theirs {};
  ASSERT_EQ(::fstat(netns.get(), &ours), 0);
  ASSERT_EQ(::fstat(control_.netns_fd.get(), &theirs), 0);
  EXPECT_EQ(ours.st_ino, theirs.st_ino);
  EXPECT_NE(::fcntl(control_.netns_fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(BusServiceTest, AttachDetachExplainReloadReachTheDaemon) {
  serve();
  EXPECT_EQ(client_->manager("AttachPid", "us", 4711U, "box").body[0],
            "/org/portfwd1/container/attached");
  EXPECT_EQ(control_.asked.pid, 4711);
  EXPECT_EQ(client_->manager("AttachPid", "us", 0U, "").error,
            "org.portfwd1.Error.InvalidArgument");
  EXPECT_EQ(client_->manager("Detach", "o", "/org/portfwd1/container/attached").error, "");
  EXPECT_EQ(control_.asked.container, "attached");
  EXPECT_EQ(client_->manager("Detach", "o", kWebPath).error, "org.portfwd1.Error.NoSuchContainer");
  EXPECT_EQ(client_->manager("Unforward", "o", "/").error, "org.portfwd1.Error.NoSuchForward");
  const auto facts = client_->manager("Explain", "ss", "web", "8080").body[0];
  EXPECT_EQ(facts["forwarded"], true);
  EXPECT_EQ(facts["seen"], Json({"0.0.0.0:8080 by nginx", "since noon"}));
  EXPECT_EQ(facts["remedies"].dump(), R"([["end-forward",["f-1"]]])");
  const auto status = client_->manager("GetStatus").body[0];
  EXPECT_EQ(status["poll_cost"], 0.25);
  EXPECT_EQ(status["instance_id"], "instance");
  EXPECT_EQ(client_->manager("Reload").error, "");
  EXPECT_EQ(control_.asked.what, "reload");
}

TEST_F(BusServiceTest, EventsAreGivenAfterANumber) {
  serve();
  control_.add(web_container());
  control_.add(web_forward());
  control_.remove_forward("f-1", "container-gone");
  control_.tell(Event::Type::Gap, std::monostate{}, "");
  const Json events = client_->manager("GetEvents", "t", std::uint64_t{1}).body[0];
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0][0], 2);
  EXPECT_EQ(events[0][1], 1767268801000000);
  EXPECT_EQ(events[0][2], "PortAdded");
  EXPECT_EQ(events[0][3], kWebPath);
  EXPECT_EQ(events[0][4]["HostPort"], 8080);
  EXPECT_EQ(events[1][4]["Reason"], "container-gone");
  EXPECT_EQ(events[2][2], "Gap");
  EXPECT_EQ(events[2][3], "/");
}

TEST_F(BusServiceTest, ANameInAnyBytesHarmsNobody) {
  ContainerInfo container = web_container();
  container.name = std::string("\xff\xfe\xed\xa0\x80 \xef\xbf\xbe and \0 nul", 20);
  container.labels = {{"\x80", "\xc0\x80"}};
  control_.all_containers = {container};
  ForwardInfo forward = web_forward();
  forward.process = "\xf5worm";
  control_.all_forwards = {forward};
  serve();
  const Json objects = client_->managed_objects();
  EXPECT_EQ(objects[kWebPath][kForward]["Process"], "?worm");
}

TEST_F(BusServiceTest, ASecondDaemonIsToldThatTheNameIsTaken) {
  serve();
  FakeControl other;
  const auto second = connect(other);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, Refusal::Kind::AlreadyRunning);
  EXPECT_TRUE(
      second.error().text.starts_with("another portfwd owns org.portfwd1 on this bus; stop"));
}

TEST_F(BusServiceTest, OfTwoThatStartTogetherOneGetsTheName) {
  FakeControl other;
  auto first = connect(control_);
  auto second = connect(other);
  ASSERT_TRUE(first && second);
  EXPECT_TRUE((*first)->publish());
  const auto refused = (*second)->publish();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, Refusal::Kind::AlreadyRunning);
}

TEST_F(BusServiceTest, TheEndOfTheBusIsToldOnceAndHurtsNothing) {
  control_.all_forwards = {web_forward()};
  serve();
  bus_.end();
  ASSERT_TRUE(until([&] { return lost_.has_value(); }));
  EXPECT_NE(*lost_, "");
  lost_.reset();
  control_.add(web_container());
  control_.change(web_forward());
  control_.remove_forward("f-1", "daemon-stopped");
  ASSERT_TRUE(loop_.turn(Duration::zero()) && loop_.turn(Duration::zero()));
  EXPECT_FALSE(lost_);
  service_.reset();
}

TEST_F(BusServiceTest, WithoutABusTheFailureSaysWhatToDo) {
  ::setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/at/all", 1);
  const auto service = connect(control_);
  ASSERT_FALSE(service);
  EXPECT_EQ(service.error().kind, Refusal::Kind::Failed);
  EXPECT_NE(service.error().text.find("dbus-run-session"), std::string::npos)
      << service.error().text;
}

TEST_F(BusServiceTest, ACallerThatFloodsIsAnsweredInTurns) {
  serve();
  constexpr int kCalls = 500;
  int answered = 0;
  for (int i = 0; i < kCalls; ++i) client_->call_later("GetStatus", answered);
  int turns = 0;
  ASSERT_TRUE(until([&] { return ++turns, answered == kCalls; }));
  EXPECT_GE(turns, kCalls / 64) << "the loop must get to others in between";
}

TEST_F(BusServiceTest, ItsEndTakesTheNameOffTheBus) {
  serve();
  service_.reset();
  EXPECT_EQ(client_->manager("GetStatus").error, "org.freedesktop.DBus.Error.ServiceUnknown");
}

TEST_F(BusServiceTest, NothingToDoIsNoWork) {
  serve();
  client_.reset();
  ASSERT_TRUE(loop_.turn(Duration::zero()));
  const TimePoint before = loop_.now();
  ASSERT_TRUE(loop_.turn(std::chrono::milliseconds(100)));
  EXPECT_GE(loop_.now() - before, std::chrono::milliseconds(90))
      << "the loop was woken for nothing";
}

}  // namespace
}  // namespace portfwd
