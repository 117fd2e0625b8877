// The program portfwdctl with the daemon's D-Bus service on a real bus.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "build_paths.h"
#include "support/bus_client.h"
#include "support/program.h"
#include "support/served_bus.h"

namespace portfwd {
namespace {

using namespace testing_support;
using OrderedJson = nlohmann::ordered_json;

class BusCtlTest : public ServedBusTest {
 protected:
  struct Result {
    int status;
    std::string out;
    std::string err;
  };

  std::unique_ptr<Program> start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), PORTFWDCTL_PATH);
    return std::make_unique<Program>(loop_, std::move(arguments));
  }
  Result ctl(std::vector<std::string> arguments) {
    const auto program = start(std::move(arguments));
    EXPECT_TRUE(turn_until(loop_, [&] { return program->ended(); }));
    return {program->status(), program->out(), program->err()};
  }
  OrderedJson json(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "--json");
    const Result result = ctl(std::move(arguments));
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return OrderedJson::parse(result.out, nullptr, false);
  }
  void expect_failure(int status, const std::string& word, std::vector<std::string> arguments) {
    const Result result = ctl(std::move(arguments));
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_EQ(result.out, "");
    EXPECT_TRUE(result.err.starts_with("portfwdctl: ")) << result.err;
    EXPECT_EQ(std::ranges::count(result.err, '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
  }
};

TEST_F(BusCtlTest, ListHasTheKeysAndTheOrderOfTheContract) {
  control_.all_forwards = {web_forward()};
  serve();
  const OrderedJson expected = OrderedJson::parse(R"([{
    "id":"f-1","container":{"id":"c_1","name":"web","engine":"podman"},"protocol":"tcp",
    "direction":"in","target":"8080","container_address":"127.0.0.1","container_port":8080,
    "host_address":"127.0.0.1","host_addresses":["127.0.0.1","::1"],"host_port":8080,
    "origin":"auto","state":"active","reason":"","label":"","process":"nginx",
    "url":"http://127.0.0.1:8080/","since":"2026-01-01T12:00:00.123456Z",
    "connections":{"active":1,"total":12,"failed":2,"refused":3},"bytes":{"in":123,"out":456},
    "on_auto_forward":"notify","container_path":"","socket_type":"","host_path":""}])");
  EXPECT_EQ(json({"list"}).dump(2), expected.dump(2));
}

TEST_F(BusCtlTest, ContainersHasTheKeysAndTheOrderOfTheContract) {
  ContainerInfo web = web_container();
  web.listeners.push_back({.protocol = Protocol::Unix,
                           .local = UnixPath{"/run/a\nb.sock"},
                           .uid = 70,
                           .process = "nginx",
                           .type = SocketType::Seqpacket,
                           .backlog = 128});
  control_.all_containers = {web};
  serve();
  const OrderedJson expected = OrderedJson::parse(R"([{
    "id":"c_1","name":"web","engine":"podman","uid":1000,"pid":4711,"netns":4026532281,
    "image":"docker.io/library/nginx","labels":{"project":"shop"},"state":"watched",
    "reach":"broker","reason":"","listeners":[
      {"protocol":"tcp","address":"0.0.0.0","port":8080,"process":"nginx","uid":0,
       "path":"","type":"","backlog":0},
      {"protocol":"unix","address":"","port":0,"process":"nginx","uid":70,
       "path":"/run/a?b.sock","type":"seqpacket","backlog":128}],
    "listeners_total":2,"ever_listened":true,"attached":false,"pod":"back","project":"shop","service":"web",
    "published":[{"protocol":"tcp","host_address":"127.0.0.1","host_port":8081,
      "container_port":80,"count":1}]}])");
  EXPECT_EQ(json({"containers"}).dump(2), expected.dump(2));
}

/// Factor for the load in a build without sanitizers, which copies messages ten times as fast.
#ifdef PORTFWD_QUICK_BUILD
constexpr int kTimes = 10;
#else
constexpr int kTimes = 1;
#endif

TEST_F(BusCtlTest, EventsShowsAllThoughAnAnswerHoldsAPart) {
  constexpr int kForwards = 20 + 4 * kTimes;  // 4.8 MB of events at least; a reply holds 2 MiB
  ForwardInfo long_winded = web_forward();
  long_winded.reason = std::string(100'000, 'x');
  serve();
  for (int i = 0; i < kForwards; ++i) {
    control_.add(long_winded);
    control_.remove_forward(long_winded.id, "rule");
  }
  const auto all = json({"events"});
  ASSERT_EQ(all.size(), 2U * kForwards);
  EXPECT_EQ(all.front()["seq"], 1);
  EXPECT_EQ(all.back()["seq"], 2 * kForwards);
  EXPECT_EQ(json({"events", "--since", "#28"}).size(), 2U * kForwards - 28);
}

TEST_F(BusCtlTest, TellsAnEventWithoutTheListsOfItsContainer) {
  serve();
  control_.add(web_container());
  const auto container = json({"events"})[0]["container"];
  EXPECT_EQ(container["image"], "docker.io/library/nginx");
  for (const char* list : {"labels", "listeners", "published"}) {
    EXPECT_FALSE(container.contains(list)) << list;
  }
}

// With sanitizers the client alone exceeds the deadline.
#ifdef PORTFWD_QUICK_BUILD
TEST_F(BusCtlTest, ContainersAreToldUpToWhatABusTakes) {
  ContainerInfo big = web_container("big");
  big.listeners.assign(5000, big.listeners.front());
  control_.all_containers = {big, web_container()};
  constexpr int kFloods = 40;
  for (int i = 0; i < kFloods; ++i) {
    ContainerInfo flood = web_container("flood" + std::to_string(i));
    flood.listeners.assign(20000, flood.listeners.front());
    flood.labels["big"] = std::string(1 << 20, 'x');
    control_.all_containers.push_back(flood);
  }
  serve();
  const auto all = json({"containers"});
  ASSERT_EQ(all.size(), 2U + kFloods);
  EXPECT_LT(all.dump().size(), 24U << 20);
  for (const auto& one : all) {
    const bool flood = one["id"].get<std::string>().starts_with("flood");
    EXPECT_EQ(one["listeners_total"], flood ? 20000 : one["id"] == "big" ? 5000 : 1);
    EXPECT_GE(one["listeners"].size(), one["id"] == "c_1" ? 1U : 2000U);
    if (!flood) {
      EXPECT_EQ(one["labels"]["project"], "shop");
    }
  }
}
#endif

TEST_F(BusCtlTest, ContainersHidesWhatIsOfNoInterestUnlessAsked) {
  ContainerInfo sandbox = web_container("browser");
  sandbox.engine = "";
  sandbox.ever_listened = false;
  ContainerInfo asked_for = sandbox;
  asked_for.id = "asked_for";
  asked_for.attached = true;
  control_.all_containers = {sandbox, web_container(), asked_for};
  serve();
  EXPECT_EQ(json({"containers"}).size(), 2U);
  EXPECT_EQ(json({"containers", "--all"}).size(), 3U);
}

TEST_F(BusCtlTest, ListMayBeOfOneContainer) {
  ForwardInfo other = web_forward("f2");
  other.container_name = "db";
  other.container_id = "c2";
  control_.all_forwards = {web_forward(), other};
  control_.all_containers = {web_container()};
  serve();
  const auto found = json({"list", "--container", "db"});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0]["id"], "f2");
  EXPECT_EQ(json({"list", "--container", "c_"})[0]["id"], "f-1");
  expect_failure(1, "'nobody'", {"list", "--container", "nobody"});
}

TEST_F(BusCtlTest, ForwardMakesOneAndShowsIt) {
  serve();
  const auto made = json({"forward", "web", "8080:18080", "--label", "mine", "--bind=127.0.0.1",
                          "--address", "::1", "--reverse", "--persist", "--allow-missing"});
  EXPECT_EQ(made["id"], "made");
  EXPECT_EQ(made["host_port"], 18080);
  EXPECT_EQ(control_.asked.container, "web");
  EXPECT_EQ(control_.asked.target, "8080");
  const ForwardSpec& spec = control_.asked.spec;
  EXPECT_EQ(spec.host_port, 18080);
  EXPECT_EQ(spec.label, "mine");
  EXPECT_EQ(spec.bind, "127.0.0.1");
  EXPECT_EQ(spec.container_address, "::1");
  EXPECT_EQ(spec.direction, Direction::Reverse);
  EXPECT_TRUE(spec.persist && spec.allow_missing);
}

TEST_F(BusCtlTest, ForwardToldInWords) {
  serve();
  const Result said = ctl({"forward", "web", "8080"});
  EXPECT_EQ(said.out, "localhost:8080 -> web:8080  (made, active)\n") << said.err;
  EXPECT_FALSE(control_.asked.spec.host_port);
}

TEST_F(BusCtlTest, UnforwardTakesIdHostPortOrContainerAndPort) {
  serve();
  ForwardInfo forward = web_forward();
  forward.host_port = 18080;
  for (const std::string word : {"f-1", "18080", "web:8080", "c_:8080/tcp"}) {
    control_.add(forward);
    EXPECT_EQ(ctl({"unforward", word}).status, 0) << word;
    EXPECT_TRUE(control_.all_forwards.empty()) << word;
  }
  control_.add(forward);
  expect_failure(1, "no forward 'web:8080/udp'", {"unforward", "web:8080/udp"});
  expect_failure(1, "no forward '8080'", {"unforward", "8080"});
}

TEST_F(BusCtlTest, AttachByPidAndByPathOpenedHere) {
  serve();
  EXPECT_EQ(json({"attach", "--pid", "4711", "--name", "box"})["id"], "attached");
  EXPECT_EQ(control_.asked.pid, 4711);
  EXPECT_EQ(control_.asked.container, "box");
  control_.remove_container("attached", "detached");
  EXPECT_EQ(ctl({"attach", "--netns", "/proc/self/ns/net"}).status, 0);
  struct stat ours {};
  struct stat theirs {};
  ASSERT_EQ(::stat("/proc/self/ns/net", &ours), 0);
  ASSERT_EQ(::fstat(control_.netns_fd.get(), &theirs), 0);
  EXPECT_EQ(ours.st_ino, theirs.st_ino);
  expect_failure(1, "/nowhere", {"attach", "--netns", "/nowhere"});
}

TEST_F(BusCtlTest, DetachByNameOrId) {
  control_.all_containers = {web_container()};
  serve();
  EXPECT_EQ(ctl({"detach", "web"}).status, 0);
  EXPECT_EQ(control_.asked.container, "c_1");
  expect_failure(1, "no container 'web'", {"detach", "web"});
}

TEST_F(BusCtlTest, EventsSinceANumberATimeOrTheBeginning) {
  serve();
  control_.add(web_container());
  control_.add(web_forward());
  control_.remove_forward("f-1", "listener-closed");
  const auto all = json({"events"});
  ASSERT_EQ(all.size(), 3U);
  EXPECT_EQ(all[0]["seq"], 1);
  EXPECT_EQ(all[0]["type"], "ContainerAdded");
  EXPECT_EQ(all[0]["container"]["name"], "web");
  EXPECT_EQ(all[1]["time"], "2026-01-01T12:00:01.000000Z");
  EXPECT_EQ(all[1]["forward"]["host_port"], 8080);
  EXPECT_EQ(all[2]["reason"], "listener-closed");
  EXPECT_EQ(all[2]["forward"]["reason"], "");
  EXPECT_EQ(json({"events", "--since", "#2"}).size(), 1U);
  EXPECT_EQ(json({"events", "--since", "2026-01-01T12:00:01Z"}).size(), 2U);
  const Result lines = ctl({"events"});
  EXPECT_EQ(std::ranges::count(lines.out, '\n'), 3);
  EXPECT_NE(lines.out.find("PortRemoved       localhost:8080 -> web:8080  (listener-closed)"),
            std::string::npos)
      << lines.out;
}

TEST_F(BusCtlTest, FollowPrintsPastEventsThenNewOnesUntilTheDaemonEnds) {
  serve();
  control_.add(web_container());
  const auto follower = start({"--json", "events", "--follow", "--since", "#0"});
  const auto lines = [&] { return std::ranges::count(follower->out(), '\n'); };
  ASSERT_TRUE(turn_until(loop_, [&] { return lines() == 1; })) << follower->err();
  control_.add(web_forward());
  ASSERT_TRUE(turn_until(loop_, [&] { return lines() == 2; })) << follower->err();
  control_.remove_forward("f-1", "daemon-stopped");
  service_.reset();
  ASSERT_TRUE(turn_until(loop_, [&] { return follower->ended(); }));
  EXPECT_EQ(follower->status(), 3);
  EXPECT_EQ(follower->err(),
            "portfwdctl: lost the connection to the daemon; start it with `systemctl --user start "
            "portfwd`\n");
  std::istringstream in(follower->out());
  std::uint64_t expected = 1;
  for (std::string line; std::getline(in, line); ++expected) {
    EXPECT_EQ(Json::parse(line)["seq"], expected);
  }
  EXPECT_EQ(expected, 4U);
}

TEST_F(BusCtlTest, ExplainStatusAndReload) {
  serve();
  const Json explained = json({"explain", "web", "8080"});
  EXPECT_EQ(explained["forwarded"], true);
  EXPECT_EQ(explained["remedies"][0]["code"], "end-forward");
  EXPECT_EQ(explained["remedies"][0]["arguments"].dump(), R"(["f-1"])");
  EXPECT_EQ(control_.asked.container, "web");
  EXPECT_EQ(ctl({"explain", "8080/udp"}).out,
            "8080 is forwarded\nseen    0.0.0.0:8080 by nginx\n        since noon\n"
            "remedy  end the forward with `portfwdctl unforward f-1`\n");
  EXPECT_EQ(control_.asked.container, "");
  EXPECT_EQ(control_.asked.target, "8080/udp");
  EXPECT_EQ(ctl({"explain", "web:8080"}).status, 0);
  EXPECT_EQ(control_.asked.container, "web");
  EXPECT_EQ(control_.asked.target, "8080");
  const auto status = json({"status"});
  EXPECT_EQ(status["poll_cost"], 0.25);
  EXPECT_TRUE(status.contains("version"));
  EXPECT_EQ(ctl({"reload"}).status, 0);
  control_.refusal = {Refusal::Kind::InvalidArgument,
                      "config.toml:3:7: host_port must be 1 to 65535"};
  expect_failure(1, "config.toml:3:7", {"reload"});
}

TEST_F(BusCtlTest, OpenRunsXdgOpenWithTheUrlAlone) {
  control_.all_forwards = {web_forward()};
  serve();
  const TempDir bin;
  const std::string seen = bin.path() + "/seen";
  std::ofstream(bin.path() + "/xdg-open") << "#!/bin/sh\nprintf '%s\\n' \"$@\" >" << seen << "\n";
  std::filesystem::permissions(bin.path() + "/xdg-open", std::filesystem::perms::owner_all);
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", (bin.path() + ":" + path).c_str(), 1);
  EXPECT_EQ(ctl({"open", "web:8080"}).status, 0);
  std::ostringstream url;
  url << std::ifstream(seen).rdbuf();
  EXPECT_EQ(url.str(), "http://127.0.0.1:8080/\n");
  control_.all_forwards[0].url = "javascript:alert(1)";
  control_.change(control_.all_forwards[0]);
  expect_failure(1, "no web address", {"open", "web:8080"});
  ::setenv("PATH", path.c_str(), 1);
}

TEST_F(BusCtlTest, ARefusalIsOneLineAndStatusOne) {
  serve();
  control_.refusal = {Refusal::Kind::PortInUse, "127.0.0.1:80 is held by apache; choose another"};
  expect_failure(1, "held by apache", {"forward", "web", "80:80"});
  expect_failure(1, "no forward 'f9'", {"unforward", "f9"});
  control_.refusal = {Refusal::Kind::NoSuchContainer, "no container has it"};
  expect_failure(1, "`portfwdctl containers --all`", {"explain", "80"});
}

TEST_F(BusCtlTest, ARefusalNamesTheCommandThatEndsTheForwardInTheWay) {
  control_.all_forwards = {web_forward()};
  control_.all_forwards[0].origin = Origin::Manual;
  serve();
  control_.refusal = {Refusal::Kind::InvalidArgument,
                      "it is forwarded already: end forward f-1 first"};
  expect_failure(1, "`portfwdctl unforward f-1`", {"forward", "web", "8080"});
  expect_failure(1, "first\n", {"forward", "web", "8081"});
  control_.refusal = {Refusal::Kind::InvalidArgument, "'x' is not an address"};
  expect_failure(1, "address\n", {"forward", "web", "8080", "--bind", "x"});
}

TEST_F(BusCtlTest, WrongUsageIsStatusTwoWithOrWithoutADaemon) {
  expect_failure(2, "'0' is not a port", {"forward", "web", "0"});
  expect_failure(2, "'65536'", {"forward", "web", "8080:65536"});
  expect_failure(2, "'abc'", {"explain", "abc"});
  expect_failure(2, "did you mean 'list'", {"lsit"});
  expect_failure(2, "'yesterday'", {"events", "--since", "yesterday"});
  expect_failure(2, "given twice", {"forward", "web", "1:2", "--host-port", "3"});
}

TEST_F(BusCtlTest, RejectsANameThatIsNotUtf8) {
  serve();
  const std::string name =
      "w\xff"
      "b";
  for (const std::vector<std::string>& line : {std::vector<std::string>{"explain", name, "80"},
                                               {"forward", name, "80"},
                                               {"forward", "web", "80", "--label", name},
                                               {"attach", "--pid", "1", "--name", name}}) {
    expect_failure(2, "'w?b' is not UTF-8", line);
  }
}

TEST_F(BusCtlTest, WithoutADaemonItIsStatusThreeWithTheRemedy) {
  for (const char* command : {"list", "containers", "events", "status", "reload"}) {
    expect_failure(3, "systemctl --user start portfwd", {command});
  }
}

TEST_F(BusCtlTest, WithoutABusItIsStatusThree) {
  bus_.end();
  expect_failure(3, "DBUS_SESSION_BUS_ADDRESS", {"list"});
}

TEST_F(BusCtlTest, TimesOutWhenTheDaemonDoesNotAnswer) {
  serve();
  EventLoop other(clock_);  // the loop of the service does not turn
  const Program program(other, {PORTFWDCTL_PATH, "--timeout", "0.2", "list"});
  EXPECT_TRUE(turn_until(other, [&] { return program.ended(); }));
  EXPECT_EQ(program.status(), 3) << program.err();
}

}  // namespace
}  // namespace portfwd
