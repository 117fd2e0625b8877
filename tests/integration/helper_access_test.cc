// Containers of root by an engine that this user may use: when a helper container is started, what
// it provides, and what happens to the listeners without it. The broker in it is the real one.
#include <gmock/gmock.h>

#include "support/access_fixture.h"
#include "support/box.h"
#include "support/fake_engine.h"
#include "support/veth.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr IpAddress kAny = IpAddress::any(Family::V4);
constexpr IpAddress kLoopback = IpAddress::loopback(Family::V4);

struct HelperAccessTest : AccessTest, DialHandler {
  void on_dialled(Result<UniqueFd> connected) override { outcome = std::move(connected); }

  ContainerAccess& add_container() {
    Container& made = sealed_container("web", box.pid());
    made.engine = "docker";
    made.engine_id = std::string(64, 'a');
    return add(made);
  }
  bool becomes(const ContainerAccess& reach, AccessKind kind) {
    return turn_until([&] { return reach.kind() == kind && reach.reason().empty(); });
  }
  std::optional<Endpoint> dial(ContainerAccess& reach, Port port) {
    const std::vector<Address> candidates{{kLoopback, port}};
    DialStart start = reach.dialer({Protocol::Tcp}).dial(candidates, loop.now() + 10s, *this);
    if (start.connected.valid()) outcome = std::move(start.connected);
    turn_until([&] { return outcome.has_value(); });
    return outcome && *outcome ? peer_endpoint((*outcome)->get()) : std::nullopt;
  }

  OnInsidePort on_inside_port() {
    return [this](InsideSockets sockets) { inside = std::move(sockets); };
  }

  Box box = Box::of_roots();
  Veth veth{box.pid(), 1};
  FakeEngine engine{loop, folder.path() + "/engine.sock", box.pid()};
  std::optional<Result<UniqueFd>> outcome;
  std::optional<InsideSockets> inside;
};

TEST_F(HelperAccessTest, AListenerOnLoopbackIsReachedThroughAHelper) {
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  ContainerAccess& web = add_container();
  ASSERT_TRUE(becomes(web, AccessKind::Helper));
  EXPECT_EQ(web.state(), ContainerState::Watched);
  EXPECT_EQ(dial(web, 8080), (Endpoint{kLoopback, 8080}));
}

TEST_F(HelperAccessTest, ServesLaterListenersByTheSameHelper) {
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  ContainerAccess& web = add_container();
  ASSERT_TRUE(becomes(web, AccessKind::Helper));
  ASSERT_EQ(box.open({kLoopback, 8081}), 0);
  ASSERT_TRUE(listens_on(web, 2));
  EXPECT_EQ(dial(web, 8081), (Endpoint{kLoopback, 8081}));
  EXPECT_EQ(engine.asked("POST /v1.40/containers/create"), 1U);
}

TEST_F(HelperAccessTest, StartsNoHelperForUnixSocketsAndSaysWhichItCouldDial) {
  ASSERT_EQ(box.open_unix(folder.path() + "/app.sock"), 0);
  ASSERT_EQ(box.open_unix("@app"), 0);
  ContainerAccess& web = add_container();
  ASSERT_TRUE(listens_on(web, 2));
  EXPECT_EQ(web.kind(), AccessKind::Bridge);
  EXPECT_THAT(web.listeners()[0].unreachable, HasSubstr("its file cannot be opened"));
  EXPECT_EQ(web.listeners()[1].unreachable, "");
}

TEST_F(HelperAccessTest, StartsNoHelperWithoutALoopbackListener) {
  ASSERT_EQ(box.open({kAny, 8080}), 0);
  ASSERT_EQ(box.open({IpAddress::v4(127, 0, 0, 11), 40000}), 0);  // the engine's DNS resolver
  ContainerAccess& web = add_container();
  ASSERT_TRUE(listens_on(web, 2));
  EXPECT_EQ(dial(web, 8080), (Endpoint{veth.v4(), 8080}));
  EXPECT_EQ(web.kind(), AccessKind::Bridge);
  EXPECT_EQ(engine.asked("POST "), 0U);
}

TEST_F(HelperAccessTest, GivesTheHelperNoPrivilegesAndALabel) {
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  ASSERT_TRUE(becomes(add_container(), AccessKind::Helper));
  const nlohmann::json& host = engine.created["HostConfig"];
  EXPECT_EQ(engine.created["Image"], "sha256:1234");
  EXPECT_EQ(engine.created["User"], fmt::format("{}:{}", ::geteuid(), ::getegid()));
  EXPECT_EQ(engine.created["Labels"]["portfwd.helper"], "1");
  EXPECT_EQ(host["NetworkMode"], "container:" + std::string(64, 'a'));
  EXPECT_THAT(host["CapDrop"], ElementsAre("ALL"));
  EXPECT_EQ(host["ReadonlyRootfs"], true);
  EXPECT_EQ(host["AutoRemove"], true);
  EXPECT_EQ(host["Mounts"][0]["ReadOnly"], true);
}

TEST_F(HelperAccessTest, RemovesTheHelperWithTheContainer) {
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  ASSERT_TRUE(becomes(add_container(), AccessKind::Helper));
  EXPECT_EQ(engine.helpers(), 1U);
  remove(containers.front());
  EXPECT_TRUE(turn_until([&] { return engine.helpers() == 0; }));
  EXPECT_TRUE(turn_until(
      [&] { return engine.asked("DELETE /v1.40/containers/0123456789abcdef?force=1") == 1; }));
  EXPECT_THAT(std::filesystem::directory_iterator(folder.path() + "/runtime"),
              testing::Truly([](auto it) { return it == std::filesystem::directory_iterator(); }));
}

TEST_F(HelperAccessTest, KeepsTheBridgeAndQuotesAnEngineThatRejects) {
  engine.refuse_with = "no such image: sha256:1234";
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  ASSERT_EQ(box.open({kAny, 8081}), 0);
  ContainerAccess& web = add_container();
  ASSERT_TRUE(turn_until([&] { return web.reason().find("no such image") != std::string::npos; }));
  EXPECT_EQ(web.kind(), AccessKind::Bridge);
  EXPECT_EQ(dial(web, 8081), (Endpoint{veth.v4(), 8081}));
  EXPECT_EQ(engine.asked("POST "), 1U);
}

TEST_F(HelperAccessTest, SkipsAnEngineThatDoesNotKnowTheContainer) {
  const HttpServer other(loop, folder.path() + "/other.sock", [](const std::string&) {
    return HttpReply::with(404, R"({"message":"No such container"})");
  });
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  EXPECT_TRUE(becomes(add_container(), AccessKind::Helper));
}

TEST_F(HelperAccessTest, RemovesLeftoversOfAKilledDaemon) {
  engine.leftovers = R"([{"Id":"fedcba987654"},{"Id":"../images/x"}])";
  add_container();
  EXPECT_TRUE(
      turn_until([&] { return engine.asked("DELETE /v1.40/containers/fedcba987654") == 1; }));
  EXPECT_EQ(engine.asked("DELETE "), 1U);
  EXPECT_EQ(engine.asked("GET /v1.40/containers/json?all=1&filters="), 1U);
}

TEST_F(HelperAccessTest, RemovesLeftoversAtTheStartIfAnEngineRuns) {
  engine.leftovers = R"([{"Id":"fedcba987654"}])";
  engine_runs = true;
  EXPECT_TRUE(
      turn_until([&] { return engine.asked("DELETE /v1.40/containers/fedcba987654") == 1; }));
  add_container();
  EXPECT_TRUE(loop.turn(0ms));
  EXPECT_EQ(engine.asked("GET /v1.40/containers/json?all=1"), 1U) << "once is enough";
}

TEST_F(HelperAccessTest, DoesNotStartAnEngineByARequest) {
  EXPECT_TRUE(loop.turn(0ms));
  EXPECT_EQ(http.calls(), 0U);
}

TEST_F(HelperAccessTest, MakesAnInsidePortByAHelper) {
  ContainerAccess& web = add_container();
  const auto port = web.listen_inside({Target(Protocol::Tcp, 5432), {}}, on_inside_port());
  ASSERT_TRUE(port) << port.error().text;
  ASSERT_TRUE(turn_until([&] { return inside.has_value(); }));
  ASSERT_TRUE(*inside) << inside->error().text;
  EXPECT_EQ(web.kind(), AccessKind::Helper);
  EXPECT_THAT(told, ElementsAre("web:")) << "another way is news";
  for (const BoundSocket& bound : **inside) EXPECT_EQ(::listen(bound.socket.get(), 8), 0);
  EXPECT_EQ(box.open({kLoopback, 5432}), EADDRINUSE);
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  ASSERT_TRUE(listens_on(web, 1)) << "ours is none of the container's";
  EXPECT_EQ(web.listeners().front().local.ip().port, 8080);
  inside.reset();
}

TEST_F(HelperAccessTest, ReportsWhyNoHelperCanMakeAnInsidePort) {
  engine.refuse_with = "no such image: sha256:1234";
  ContainerAccess& web = add_container();
  const auto asked = web.listen_inside({Target(Protocol::Tcp, 5432), {}}, on_inside_port());
  ASSERT_TRUE(asked) << "the helper is on its way";
  ASSERT_TRUE(turn_until([&] { return inside.has_value(); }));
  EXPECT_FALSE(*inside);
  const auto again = web.listen_inside({Target(Protocol::Tcp, 5432), {}}, on_inside_port());
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().text, HasSubstr("no such image"));
  EXPECT_THAT(again.error().text, HasSubstr("rootless"));
  EXPECT_EQ(engine.asked("POST "), 1U);
}

TEST_F(HelperAccessTest, StaysABridgeWithoutAUsableEngineSocket) {
  std::filesystem::remove(folder.path() + "/engine.sock");
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  ContainerAccess& web = add_container();
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_EQ(web.kind(), AccessKind::Bridge);
  EXPECT_THAT(web.reason(), HasSubstr("let the server listen on 0.0.0.0"));
  EXPECT_FALSE(web.listen_inside({Target(Protocol::Tcp, 5432), {}}, on_inside_port()));
}

TEST_F(HelperAccessTest, StaysABridgeForAnEngineThatIsNotDocker) {
  ASSERT_EQ(box.open({kLoopback, 8080}), 0);
  Container& made = sealed_container("web", box.pid());
  made.engine = "podman";
  made.engine_id = std::string(64, 'b');
  ContainerAccess& web = add(made);
  ASSERT_TRUE(listens_on(web, 1));
  EXPECT_EQ(web.kind(), AccessKind::Bridge);
  EXPECT_THAT(web.reason(), HasSubstr("rootless"));
}

}  // namespace
}  // namespace portfwd
