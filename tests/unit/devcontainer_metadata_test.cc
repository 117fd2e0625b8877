// The ports part of a dev container's metadata: every form that the reference has, and what people
// and hostile images write instead.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "devcontainer/port_metadata.h"

namespace portfwd::devcontainer {
namespace {

TEST(PortMetadata, ForwardPortsAreNumbersOrPortsOfServices) {
  const auto read =
      parse_port_metadata(R"({"forwardPorts": [3000, "8080", "db:5432", "localhost:9000"]})");
  const std::vector<WantedPort> expected{
      {"", 3000, {}}, {"", 8080, {}}, {"db", 5432, {}}, {"", 9000, {}}};
  EXPECT_EQ(read.wanted, expected);
  EXPECT_TRUE(read.complaints.empty());
}

TEST(PortMetadata, AppPortIsAPortOrHostAndContainerPort) {
  const auto one = parse_port_metadata(R"({"appPort": 8080})");
  EXPECT_EQ(one.wanted, (std::vector<WantedPort>{{"", 8080, {}}}));
  const auto many = parse_port_metadata(R"({"appPort": ["9000:80", 3000, "127.0.0.1:9001:81"]})");
  EXPECT_EQ(many.wanted,
            (std::vector<WantedPort>{{"", 80, Port{9000}}, {"", 3000, {}}, {"", 81, Port{9001}}}));
}

TEST(PortMetadata, APrivilegedHostPortIsNotForMetadataToTake) {
  const auto read = parse_port_metadata(R"({"appPort": "80:8080"})");
  EXPECT_EQ(read.wanted, (std::vector<WantedPort>{{"", 8080, {}}}));
  ASSERT_EQ(read.complaints.size(), 1U);
  EXPECT_NE(read.complaints[0].find("below 1024"), std::string::npos) << read.complaints[0];
}

TEST(PortMetadata, AttributesHaveEveryFormOfKeyAndEveryValue) {
  const auto read = parse_port_metadata(R"({
    // as people write it
    "portsAttributes": {
      "3000": {"label": "app", "onAutoForward": "openBrowserOnce", "protocol": "https"},
      "40000-55000": {"onAutoForward": "ignore"},
      "db:5432": {"label": "database", "requireLocalPort": true},
      ".+\\/server.js": {"onAutoForward": "openPreview", "elevateIfNeeded": true},
    },
    "otherPortsAttributes": {"onAutoForward": "silent"},
  })");
  ASSERT_TRUE(read.complaints.empty()) << read.complaints[0];
  const auto of = [&](std::string_view service, bool own, Port port,
                      std::string_view command = "") {
    return attributes_for(read, service, own, port, command);
  };
  EXPECT_EQ(*of("app", true, 3000), (PortAttributes{"open-browser-once", "app", "https"}));
  EXPECT_EQ(of("app", true, 40000)->on_auto_forward, "ignore");
  EXPECT_TRUE(of("db", false, 5432)->require_host_port);
  EXPECT_EQ(of("db", false, 5433), nullptr) << "nothing else is said of another service";
  EXPECT_EQ(of("app", true, 7000, "node /src/server.js")->on_auto_forward, "open-browser");
  EXPECT_TRUE(of("app", true, 7000, "node /src/server.js")->elevate);
  EXPECT_EQ(of("app", true, 7000, "")->on_auto_forward, "silent") << "the unknown matches nothing";
  EXPECT_EQ(of("app", true, 3000, "node /src/server.js")->label, "app") << "the number comes first";
}

TEST(PortMetadata, LaterSnippetsOfALabelWin) {
  const auto read = parse_port_metadata(R"([
    {"forwardPorts": [1, 2], "portsAttributes": {"1": {"label": "old"}, "2": {"label": "kept"}},
     "otherPortsAttributes": {"onAutoForward": "silent"}},
    {"id": "a feature of no interest"},
    {"forwardPorts": [2, 3], "portsAttributes": {"1": {"onAutoForward": "ignore"}},
     "otherPortsAttributes": {"label": "other"}}])");
  EXPECT_EQ(read.wanted, (std::vector<WantedPort>{{"", 1, {}}, {"", 2, {}}, {"", 3, {}}}));
  EXPECT_EQ(attributes_for(read, "", true, 1, "")->label, "") << "of one port all or nothing";
  EXPECT_EQ(attributes_for(read, "", true, 2, "")->label, "kept");
  EXPECT_EQ(*read.others, (PortAttributes{{}, "other", {}}));
}

TEST(PortMetadata, WhatIsNotUnderstoodIsLeftOutAndSaid) {
  for (const char* text :
       {"", "null", "7", "\"text\"", "{", "[{]", "\xff\xfe", "{\"forwardPorts\": [1,,2]}"}) {
    const auto read = parse_port_metadata(text);
    EXPECT_TRUE(read.empty()) << text;
    EXPECT_EQ(read.complaints.size(), 1U) << text;
  }
  const auto read = parse_port_metadata(R"({
    "forwardPorts": [0, 65536, -1, 1.5, true, null, {}, "a b:1", "/run/docker.sock", "db:0", 8080],
    "appPort": ["x:80", "80:"], "portsAttributes": {"(": {}, "9-1": 3, "5": {"onAutoForward": "run"}}})");
  EXPECT_EQ(read.wanted, (std::vector<WantedPort>{{"", 8080, {}}}));
  EXPECT_EQ(read.attributes.size(), 1U);
  EXPECT_EQ(read.complaints.size(), 14U);
}

TEST(PortMetadata, ItsSizeIsBoundedWhateverTheLabelHolds) {
  std::string ports;
  for (int i = 1; i <= 60'000; ++i) ports += fmt::format("{},", i);
  const auto many = parse_port_metadata("{\"forwardPorts\": [" + ports + "]}");
  EXPECT_EQ(many.wanted.size(), 256U);
  const auto wrong = parse_port_metadata("{\"forwardPorts\": [" + std::string(3000, 'x') + "]}");
  EXPECT_EQ(wrong.complaints.size(), 1U);
  const auto deep = parse_port_metadata(std::string(100'000, '[') + std::string(100'000, ']'));
  EXPECT_TRUE(deep.empty());
}

}  // namespace
}  // namespace portfwd::devcontainer
