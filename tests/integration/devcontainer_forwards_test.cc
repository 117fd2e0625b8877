// Effects of dev container metadata on real host ports: declared ports that survive the replacement
// of a container, attributes of detected ports, and what the metadata must not request.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include "support/forward_table_fixture.h"
#include "support/streams.h"

namespace portfwd {
namespace {

using namespace testing_support;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct DevcontainerForwards : ForwardTableTest {
  TestAccess& devcontainer(const std::string& metadata) {
    auto& reach = *reaches.emplace_back(
        std::make_unique<TestAccess>(relay.context, "id-app" + std::to_string(++ids), "app"));
    reach.set_labels({{"devcontainer.metadata", metadata}});
    added(reach);
    return reach;
  }
};

TEST_F(DevcontainerForwards, AForwardPortIsHeldBeforeAnythingListens) {
  devcontainer(R"([{"forwardPorts": [18085],
                    "portsAttributes": {"18085": {"label": "the app", "protocol": "https"}}}])");
  const ForwardInfo forward = only();
  EXPECT_EQ(forward.origin, Origin::Declared);
  EXPECT_EQ(forward.state, ForwardState::Waiting);
  EXPECT_EQ(forward.label, "the app");
  EXPECT_EQ(forward.url, "https://127.0.0.1:18085/");
  EXPECT_EQ(table->requests().find(forward.id)->asked_by,
            "declared at the dev container metadata of app");
}

TEST_F(DevcontainerForwards, AClientThatComesWhileTheContainerIsReplacedIsServedByTheNewOne) {
  const std::string metadata = R"({"forwardPorts": [18085]})";
  TestAccess& first = devcontainer(metadata);
  show(first, {18085});
  EXPECT_EQ(only().state, ForwardState::Active);
  removed(first, RemovalReason::Gone);
  EXPECT_EQ(only().state, ForwardState::Waiting);

  const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const SockAddr address = to_sockaddr({IpAddress::loopback(Family::V4), 18085});
  ASSERT_EQ(::connect(client.get(), address.get(), address.length), -1);
  turn_until([&] { return only().counters.total == 1; });
  const UniqueFd server = listen_on({kInside, 18085});
  show(devcontainer(metadata), {18085});
  pollfd arrives{server.get(), POLLIN, 0};
  turn_until([&] { return ::poll(&arrives, 1, 0) == 1; });
  EXPECT_THAT(told.ports, ElementsAre("+app:18085@18085 0/1")) << "one forward all the time";
}

TEST_F(DevcontainerForwards, OneThatIsMadeAnewTakesItsForwardOverBeforeItsLabelsAreKnown) {
  const std::string metadata = R"({"forwardPorts": [18085]})";
  TestAccess& first = devcontainer(metadata);
  const std::string id = only().id;
  removed(first, RemovalReason::Gone);
  TestAccess& second = container("app");  // found in /proc; the engine has not answered
  show(second, {18085});
  EXPECT_EQ(only().state, ForwardState::Active);
  second.set_labels({{"devcontainer.metadata", metadata}});
  changed(second);
  EXPECT_EQ(only().id, id);
  EXPECT_THAT(told.ports, ElementsAre("+app:18085@18085 0/1")) << "one forward all the time";
}

TEST_F(DevcontainerForwards, KeepsItsHostPortAcrossRebuildsUnderOtherNames) {
  const auto made = [&](const std::string& name) -> TestAccess& {
    auto& reach =
        *reaches.emplace_back(std::make_unique<TestAccess>(relay.context, "id-" + name, name));
    added(reach);  // found in /proc; the engine has not answered
    show(reach, {18085});
    return reach;
  };
  const auto label = [&](TestAccess& reach) {
    reach.set_labels({{"devcontainer.local_folder", "/nowhere/shop"},
                      {"devcontainer.metadata", R"({"forwardPorts": [18085]})"}});
    changed(reach);
    EXPECT_EQ(only().origin, Origin::Declared);
  };
  std::string id;
  for (const char* name : {"happy_hopper", "brave_bell", "sad_shannon"}) {
    TestAccess& reach = made(name);
    label(reach);
    if (id.empty()) id = only().id;
    EXPECT_EQ(only().id, id) << "one forward all the time";
    EXPECT_EQ(only().host_port, 18085);
    EXPECT_EQ(only().container_name, name);
    EXPECT_EQ(only().state, ForwardState::Active);
    removed(reach, RemovalReason::Gone);
    EXPECT_EQ(only().state, ForwardState::Waiting);
  }
}

TEST_F(DevcontainerForwards, NeverTakesAHostPortThatTheEnginePublishes) {
  auto& app = *reaches.emplace_back(std::make_unique<TestAccess>(relay.context, "id-app", "app"));
  app.set_labels({{"devcontainer.metadata", R"({"appPort": ["18086:18085"]})"}});
  app.set_published({{Protocol::Tcp, "", 18086, 18085, 1}});
  added(app);
  EXPECT_EQ(table->forwards().size(), 0U);
  removed(app, RemovalReason::Gone);
  EXPECT_EQ(table->forwards().size(), 0U);
}

TEST_F(DevcontainerForwards, ADeclaredForwardThatTheEnginePublishesIsNotMade) {
  settings.forwards = {
      {{.container = "app", .target = {Protocol::Tcp, 18085}, .host_port = 18086}, false, {}}};
  apply_settings();
  EXPECT_EQ(only().state, ForwardState::Waiting);
  auto& app = *reaches.emplace_back(std::make_unique<TestAccess>(relay.context, "id-app", "app"));
  app.set_published({{Protocol::Tcp, "127.0.0.1", 18086, 18085, 1}});
  added(app);
  EXPECT_EQ(table->forwards().size(), 0U);
  removed(app, RemovalReason::Gone);
  EXPECT_EQ(table->forwards().size(), 0U) << "its engine needs the host port for the next one";
  auto& next = *reaches.emplace_back(std::make_unique<TestAccess>(relay.context, "id-2", "app"));
  next.set_published({});
  added(next);
  EXPECT_EQ(only().host_port, 18086);
}

TEST_F(DevcontainerForwards, ADeclaredForwardThatTheEnginePublishesElsewhereIsMade) {
  settings.forwards = {
      {{.container = "app", .target = {Protocol::Tcp, 18085}, .host_port = 18087}, false, {}}};
  apply_settings();
  auto& app = *reaches.emplace_back(std::make_unique<TestAccess>(relay.context, "id-app", "app"));
  app.set_published({{Protocol::Tcp, "127.0.0.1", 18086, 18085, 1}});
  added(app);
  EXPECT_EQ(only().host_port, 18087);
  EXPECT_EQ(only().container_id, "id-app");
}

TEST_F(DevcontainerForwards, OnAutoForwardIsObeyedForWantedPorts) {
  devcontainer(R"({"forwardPorts": [18085, 18087], "portsAttributes": {
      "18085": {"onAutoForward": "openBrowserOnce"}, "18087": {"onAutoForward": "ignore"}}})");
  EXPECT_EQ(table->forwards().size(), 2U);
  for (const ForwardInfo& forward : table->forwards().infos()) {
    EXPECT_EQ(forward.on_auto_forward,
              forward.container_port == 18085 ? "open-browser-once" : "silent");
  }
}

TEST_F(DevcontainerForwards, TheUsersOwnWordComesFirst) {
  settings.forwards = {
      {{.container = "app", .target = {Protocol::Tcp, 18085}, .host_port = 18086}, false, {}}};
  apply_settings();
  devcontainer(R"({"forwardPorts": [18085], "portsAttributes": {"18085": {"label": "theirs"}}})");
  EXPECT_EQ(only().host_port, 18086);
}

TEST_F(DevcontainerForwards, TheUsersOwnWordThatComesLaterEndsTheirForward) {
  devcontainer(R"({"forwardPorts": [18085]})");
  told.take();
  settings.forwards = {
      {{.container = "app", .target = {Protocol::Tcp, 18085}, .host_port = 18086}, false, {}}};
  apply_settings();
  EXPECT_THAT(told.take(), ElementsAre("-app:18085 rule", "+app:18085@18086 0/1"));
}

TEST_F(DevcontainerForwards, AttributesAreForDetectedPortsToo) {
  TestAccess& app = devcontainer(R"({"portsAttributes": {
      "18085": {"onAutoForward": "openBrowserOnce", "label": "docs"},
      "18087": {"onAutoForward": "ignore"}}})");
  show(app, {18085, 18087});
  EXPECT_EQ(only().label, "docs");
  EXPECT_EQ(only().on_auto_forward, "open-browser-once");
}

TEST_F(DevcontainerForwards, ItHasNoPrivilegedHostPortAndNoAddressBeyondLoopback) {
  settings.host.bind.only = IpAddress::v4(0, 0, 0, 0);
  settings.host.allow_remote = true;
  apply_settings();
  devcontainer(R"({"appPort": "80:18085"})");
  EXPECT_GE(only().host_port, 1024);
  for (const std::string& address : only().host_addresses) {
    EXPECT_THAT(address, testing::AnyOf("127.0.0.1", "::1"));
  }
}

TEST_F(DevcontainerForwards, APortThatIsRequiredButTakenIsAConflict) {
  const UniqueFd taken = listen_on({IpAddress::loopback(Family::V4), 18085});
  TestAccess& app = devcontainer(R"({"portsAttributes": {"18085": {"requireLocalPort": true}}})");
  show(app, {18085});
  EXPECT_EQ(only().state, ForwardState::Conflict);
}

}  // namespace
}  // namespace portfwd
