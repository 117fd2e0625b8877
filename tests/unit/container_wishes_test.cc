// Requests in the metadata of containers: which one applies to which port, and for how long.
#include "policy/container_wishes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "discover/engine_facts.h"
#include "support/manual_clock.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;

struct ContainerWishesTest : testing::Test {
  static Container container(std::string id, std::string name,
                             std::map<std::string, std::string> labels = {}) {
    Container out;
    out.id = std::move(id);
    out.name = std::move(name);
    set_labels(out, std::move(labels));
    return out;
  }
  static Container service(std::string id, std::string name, std::string service,
                           std::string metadata) {
    Container out =
        container(std::move(id), std::move(name), {{"devcontainer.metadata", std::move(metadata)}});
    out.project = "shop";
    out.service = std::move(service);
    return out;
  }
  static Listener on(Port port, std::string command = "") {
    Listener listener;
    listener.local.ip().port = port;
    listener.command = std::move(command);
    return listener;
  }
  [[nodiscard]] std::vector<std::string> declared() const {
    std::vector<std::string> out;
    for (const DeclaredForward& forward : metadata_policy.declared()) {
      out.push_back(forward.container + ":" + forward.target.text());
    }
    return out;
  }
  using Names = std::vector<std::string>;

  testing_support::ManualClock clock;
  MetadataPolicy metadata_policy{clock};
  TimePoint now{100s};
};

TEST_F(ContainerWishesTest, AContainerWithoutMetadataAsksForNothing) {
  EXPECT_FALSE(metadata_policy.update(container("1", "web")));
  EXPECT_TRUE(metadata_policy.declared().empty());
  EXPECT_FALSE(metadata_policy.attributes(container("1", "web"), on(80)).on_auto_forward);
}

TEST_F(ContainerWishesTest, ForwardPortsOfTheLabelAreDeclared) {
  const auto web =
      container("1", "web", {{"devcontainer.metadata", R"([{"forwardPorts": [3000]}])"}});
  EXPECT_TRUE(metadata_policy.update(web));
  EXPECT_EQ(declared(), Names{"web:3000"});
  EXPECT_TRUE(metadata_policy.declared()[0].by_container);
  EXPECT_FALSE(metadata_policy.update(web)) << "nothing new";
}

TEST_F(ContainerWishesTest, TheFileOfTheFolderComesOverTheLabel) {
  const auto file = devcontainer::parse_port_metadata(
      R"({"portsAttributes": {"3000": {"label": "mine"}}, /* one more */ "forwardPorts": [8080]})",
      devcontainer::local_environment);
  Container web = container("1", "web");
  set_labels(web,
             {{"devcontainer.metadata",
               R"({"forwardPorts": [3000], "portsAttributes": {"3000": {"label": "theirs"}}})"}},
             &file);
  EXPECT_TRUE(metadata_policy.update(web));
  EXPECT_EQ(declared(), (Names{"web:3000", "web:8080"}));
  EXPECT_EQ(metadata_policy.attributes(web, on(3000)).label, "mine");
}

TEST_F(ContainerWishesTest, APortOfAnotherServiceIsThatContainersAsSoonAsItIsThere) {
  const auto app = service("1", "shop-app-1", "app", R"({
      "forwardPorts": ["db:5432"],
      "portsAttributes": {"db:5432": {"label": "database", "onAutoForward": "silent"}},
      "otherPortsAttributes": {"onAutoForward": "ignore"}})");
  const auto db = service("2", "shop-db-1", "db", "");
  EXPECT_FALSE(metadata_policy.update(app)) << "there is no such service yet";
  EXPECT_TRUE(metadata_policy.update(db));
  EXPECT_EQ(declared(), Names{"shop-db-1:5432"});
  EXPECT_EQ(metadata_policy.declared()[0].label, "database");
  EXPECT_EQ(metadata_policy.attributes(db, on(5432)).on_auto_forward, "silent");
  EXPECT_FALSE(metadata_policy.attributes(db, on(9999)).on_auto_forward)
      << "other ports belong to app";
  EXPECT_EQ(metadata_policy.attributes(app, on(9999)).on_auto_forward, "ignore");
}

TEST_F(ContainerWishesTest, AServiceOfAnotherProjectIsNotMeant) {
  metadata_policy.update(service("1", "app", "app", R"({"forwardPorts": ["db:5432"]})"));
  auto other = service("2", "other-db", "db", "");
  other.project = "other";
  EXPECT_FALSE(metadata_policy.update(other));
  EXPECT_TRUE(declared().empty());
}

TEST_F(ContainerWishesTest, TheyOutliveTheContainerUntilItIsMadeAnewOrAMinuteHasPassed) {
  const auto label =
      std::map<std::string, std::string>{{"devcontainer.metadata", R"({"forwardPorts": [1]})"}};
  const auto first = container("1", "web", label);
  metadata_policy.update(first);
  metadata_policy.gone(first, now);
  EXPECT_EQ(declared(), Names{"web:1"});
  EXPECT_EQ(metadata_policy.forget_at(), now + 1min);
  EXPECT_FALSE(metadata_policy.forget(now + 59s));

  const auto second = container("2", "web", label);
  EXPECT_FALSE(metadata_policy.update(second)) << "nothing changes for the forward";
  EXPECT_FALSE(metadata_policy.forget_at());
  metadata_policy.gone(second, now);
  EXPECT_TRUE(metadata_policy.forget(now + 1min));
  EXPECT_TRUE(declared().empty());
}

TEST_F(ContainerWishesTest, TheyStayUntilTheLabelsOfTheNewOneAreKnown) {
  const auto labels = [](const char* metadata) {
    return std::map<std::string, std::string>{{"devcontainer.metadata", metadata}};
  };
  const auto first = container("1", "web", labels(R"({"forwardPorts": [1]})"));
  metadata_policy.update(first);
  metadata_policy.gone(first, now);
  EXPECT_FALSE(metadata_policy.update(container("2", "web"))) << "its engine has not answered yet";
  EXPECT_EQ(declared(), Names{"web:1"});
  EXPECT_TRUE(metadata_policy.update(container("2", "web", labels(R"({"forwardPorts": [2]})"))));
  EXPECT_EQ(declared(), Names{"web:2"});
  EXPECT_FALSE(metadata_policy.forget_at());
}

/// A dev container as its tools make it. The name is chosen by the engine.
Container of_folder(std::string id, std::string name, const std::string& metadata) {
  Container out;
  out.id = std::move(id);
  out.name = std::move(name);
  set_labels(out, {{"devcontainer.local_folder", "/nowhere/shop"},
                   {"devcontainer.config_file", "/nowhere/shop/.devcontainer/devcontainer.json"},
                   {"devcontainer.metadata", metadata}});
  return out;
}

TEST_F(ContainerWishesTest, OneThatIsMadeAnewUnderAnotherNameIsKnownByItsLabels) {
  const auto first = of_folder("1", "happy_hopper", R"({"forwardPorts": [1]})");
  metadata_policy.update(first);
  metadata_policy.gone(first, now);
  const auto other = container("2", "sad_shannon", {{"devcontainer.local_folder", "/nowhere"}});
  EXPECT_TRUE(metadata_policy.predecessors(other).empty());
  const auto second = of_folder("3", "brave_bell", R"({"forwardPorts": [1]})");
  EXPECT_EQ(metadata_policy.predecessors(second), Names{"happy_hopper"});
  metadata_policy.update(second);
  EXPECT_EQ(declared(), Names{"brave_bell:1"});
  EXPECT_TRUE(metadata_policy.predecessors(second).empty());
}

TEST_F(ContainerWishesTest, WhatTheEngineLeadsToFromTheLoopbackIsNoWish) {
  auto app = container("1", "app", {{"devcontainer.metadata", R"({"appPort": [3000, "8080:80"],
                                     "forwardPorts": [4000, 5000]})"}});
  app.published = {{Protocol::Tcp, "", 3000, 3000, 1},
                   {Protocol::Tcp, "127.0.0.1", 8080, 80, 1},
                   {Protocol::Tcp, "::1", 24000, 4000, 1},
                   {Protocol::Tcp, "192.0.2.1", 5000, 5000, 1},
                   {Protocol::Udp, "", 5000, 5000, 1}};
  EXPECT_TRUE(metadata_policy.update(app));
  EXPECT_EQ(declared(), Names{"app:5000"});
  metadata_policy.gone(app, now);
  EXPECT_EQ(declared(), Names{"app:5000"}) << "the next one needs those host ports";
}

TEST_F(ContainerWishesTest, AppPortIsLeftToTheEngineWhileTheContainerIsAway) {
  const auto app = container(
      "1", "app", {{"devcontainer.metadata", R"({"appPort": [3000], "forwardPorts": [4000]})"}});
  metadata_policy.update(app);
  EXPECT_EQ(declared(), (Names{"app:4000", "app:3000"}));
  metadata_policy.gone(app, now);
  EXPECT_EQ(declared(), Names{"app:4000"});
}

TEST_F(ContainerWishesTest, ExpressionsOfAProgramThatCannotBeSeenAreSaidToMatchNothing) {
  const auto web = container(
      "1", "web", {{"devcontainer.metadata", R"({"portsAttributes": {"node": {}, "80": {}}})"}});
  metadata_policy.update(web);
  EXPECT_TRUE(metadata_policy.attributes(web, on(8080)).unmatched);
  EXPECT_FALSE(metadata_policy.attributes(web, on(8080, "node x")).unmatched);
  EXPECT_FALSE(metadata_policy.attributes(web, on(80)).unmatched);
}

/// A container may choose both expressions and command lines. To match all of them would take
/// seconds.
TEST_F(ContainerWishesTest, MatchingExpressionsIsBoundedInTime) {
  const auto web = container(
      "1", "web",
      {{"devcontainer.metadata",
        R"({"portsAttributes": {"^x*[xy]{150}z?$": {"label": "it"}, "8080": {"label": "exact"}},
            "otherPortsAttributes": {"label": "other"}})"}});
  metadata_policy.update(web);
  const auto label = [&](int i) {
    const std::string command = std::to_string(i) + std::string(4000, 'x');
    return metadata_policy.attributes(web, on(80, command)).label;
  };
  const std::string good(100, 'x');
  EXPECT_EQ(metadata_policy.attributes(web, on(80, good + std::string(60, 'y'))).label, "it");
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(label(i), "other");
  EXPECT_EQ(metadata_policy.attributes(web, on(80, good + std::string(61, 'y'))).label, "other")
      << "for now";
  EXPECT_EQ(metadata_policy.attributes(web, on(80, good + std::string(60, 'y'))).label, "it")
      << "known before";
  EXPECT_EQ(metadata_policy.attributes(web, on(8080, good)).label, "exact");
  clock.advance(2s);
  EXPECT_EQ(metadata_policy.attributes(web, on(80, good + std::string(61, 'y'))).label, "it");
}

TEST_F(ContainerWishesTest, ALabelOrAnEnvironmentThatSaysOffIsObeyed) {
  EXPECT_EQ(MetadataPolicy::attributes(container("1", "web", {{"portfwd", "off"}})).on_auto_forward,
            "ignore");
  EXPECT_FALSE(
      MetadataPolicy::attributes(container("1", "web", {{"portfwd", "on"}})).on_auto_forward);
  Listener listener = on(80);
  listener.opted_out = true;
  EXPECT_EQ(metadata_policy.attributes(container("1", "web"), listener).on_auto_forward, "ignore");
}

}  // namespace
}  // namespace portfwd
