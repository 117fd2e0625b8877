// The ports part of a dev container's metadata: all forms of the reference, mistakes, and hostile
// metadata.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "devcontainer/port_metadata.h"

namespace portfwd::devcontainer {
namespace {

using testing::HasSubstr;

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
  EXPECT_EQ(one.wanted, (std::vector<WantedPort>{{"", 8080, {}, true}}));
  const auto many = parse_port_metadata(R"({"appPort": ["9000:80", 3000, "127.0.0.1:9001:81"]})");
  EXPECT_EQ(many.wanted,
            (std::vector<WantedPort>{
                {"", 80, Port{9000}, true}, {"", 3000, {}, true}, {"", 81, Port{9001}, true}}));
}

TEST(PortMetadata, RejectsAPrivilegedHostPort) {
  const auto read = parse_port_metadata(R"({"appPort": "80:8080"})");
  EXPECT_EQ(read.wanted, (std::vector<WantedPort>{{"", 8080, {}, true}}));
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
  EXPECT_EQ(of("db", false, 5433), nullptr) << "no other port of another service is named";
  EXPECT_EQ(of("app", true, 7000, "node /src/server.js")->on_auto_forward, "open-browser");
  EXPECT_TRUE(of("app", true, 7000, "node /src/server.js")->elevate);
  EXPECT_EQ(of("app", true, 7000, "")->on_auto_forward, "silent")
      << "an unknown command matches nothing";
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
  EXPECT_EQ(attributes_for(read, "", true, 1, "")->label, "")
      << "attributes of a port are not merged";
  EXPECT_EQ(attributes_for(read, "", true, 2, "")->label, "kept");
  EXPECT_EQ(*read.others, (PortAttributes{{}, "other", {}}));
}

TEST(PortMetadata, SkipsAndReportsUnknownValues) {
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
  EXPECT_EQ(read.complaints.size(), 15U);
}

TEST(PortMetadata, ItsSizeIsBoundedWhateverTheLabelHolds) {
  std::string ports;
  for (int i = 1; i <= 30'000; ++i) ports += fmt::format("{},", i);
  const auto many = parse_port_metadata("{\"forwardPorts\": [" + ports + "]}");
  EXPECT_EQ(many.wanted.size(), 64U);
  EXPECT_EQ(many.complaints.size(), 1U);
  const auto wrong = parse_port_metadata("{\"forwardPorts\": [" + std::string(3000, 'x') + "]}");
  EXPECT_EQ(wrong.complaints.size(), 1U);
  EXPECT_FALSE(parse_port_metadata(std::string(kLargestMetadata, ' ') + "{}").complaints.empty());
}

TEST(PortMetadata, DepthIsRefusedWhereverItIs) {
  for (const auto& deep :
       {std::string(100'000, '[') + std::string(100'000, ']'),
        "{\"forwardPorts\":[" + std::string(100'000, '[') + std::string(100'000, ']') + "]}",
        "{\"a\":" + std::string(100'000, '{'), std::string(200'000, '[')}) {
    const auto read = parse_port_metadata(deep);
    EXPECT_TRUE(read.empty());
    EXPECT_EQ(read.complaints.size(), 1U);
  }
  const auto nested = parse_port_metadata(R"({"forwardPorts": [[[[1]]], {"a": [[]]}, 8080]})");
  EXPECT_EQ(nested.wanted.size(), 1U);
  EXPECT_THAT(nested.complaints, testing::ElementsAre(HasSubstr("a list"), HasSubstr("an object")));
}

/// Without a limit, compiling these expressions takes a minute and hundreds of megabytes.
TEST(PortMetadata, ExpressionsAreCountedBeforeTheyAreCompiled) {
  for (const auto& [head, tail] :
       {std::pair("(\\\\pL{900}|x", ")"), std::pair("((\\\\pL{30}\\\\pN{30}){12}|", ")"),
        std::pair("name", "")}) {
    std::string keys;
    std::string snippets;
    for (int i = 0; i < 700; ++i) {
      const std::string key = fmt::format("\"{}{}{}\": {{}}", head, i, tail);
      keys += (i == 0 ? "" : ",") + key;
      snippets += (i == 0 ? "" : ",") + ("{\"portsAttributes\": {" + key + "}}");
    }
    const auto one = parse_port_metadata("{\"portsAttributes\": {" + keys + "}}");
    EXPECT_LE(one.attributes.size(), 16U);
    EXPECT_EQ(one.complaints.size(), 16U);
    const auto many = parse_port_metadata("[" + snippets + "]");
    EXPECT_LE(many.attributes.size(), 16U);
    EXPECT_LE(merge(one, many).attributes.size(), 16U);
    EXPECT_LE(steps_to_match(merge(one, many), std::string(1 << 20, 'x')), 1U << 19);
  }
}

TEST(PortMetadata, AnExpressionThatIsTooLongOrTooLargeIsLeftOutAndSaid) {
  for (const std::string& key :
       {std::string(257, 'a'), std::string("(a?){60}(b?){60}(c?){60}(d?){60}(e?){60}(f?){60}"),
        std::string("\\\\pL{900}"), std::string("(")}) {
    const auto read = parse_port_metadata("{\"portsAttributes\": {\"" + key + "\": {}}}");
    EXPECT_TRUE(read.attributes.empty()) << key;
    EXPECT_EQ(read.complaints.size(), 1U) << key;
  }
}

TEST(PortMetadata, OfTooManyExpressionsTheLaterOnesAreKept) {
  const auto of = [](const char* name) {
    std::string keys;
    for (int i = 0; i < 16; ++i)
      keys += fmt::format("{}\"{}{}\": {{}}", i == 0 ? "" : ",", name, i);
    return parse_port_metadata("{\"portsAttributes\": {\"1\": {}, " + keys + "}}");
  };
  const auto both = merge(of("label"), of("file"));
  ASSERT_EQ(both.attributes.size(), 17U);
  EXPECT_EQ(std::get<Regex>(both.attributes.back().selector).text(), "file9");
  EXPECT_EQ(std::ranges::count_if(both.attributes,
                                  [](const auto& entry) {
                                    const auto* regex = std::get_if<Regex>(&entry.selector);
                                    return regex != nullptr && regex->text().starts_with("file");
                                  }),
            16);
}

TEST(PortMetadata, WhatLooksLikeAPortButIsNoneGetsAHint) {
  const auto hint = [](const std::string& text) {
    const auto read = parse_port_metadata(text);
    EXPECT_TRUE(read.empty()) << text;
    EXPECT_EQ(read.complaints.size(), 1U) << text;
    return read.complaints.empty() ? "" : read.complaints[0];
  };
  EXPECT_THAT(hint(R"({"forwardPorts": ["8080:80"]})"), HasSubstr("appPort"));
  EXPECT_THAT(hint(R"({"forwardPorts": ["0.0.0.0:8083"]})"), HasSubstr("address"));
  EXPECT_THAT(hint(R"({"forwardPorts": ["[::1]:8083"]})"), HasSubstr("address"));
  EXPECT_THAT(hint(R"({"forwardPorts": ["${containerEnv:PORT}"]})"), HasSubstr("localEnv"));
  EXPECT_THAT(hint(R"({"forwardPorts": ["70000"]})"), HasSubstr("65535"));
  EXPECT_THAT(hint(R"({"forwardPorts": ["3000-2999"]})"), HasSubstr("3000-3005"));
  EXPECT_THAT(hint(R"({"portsAttributes": {"3000 - 3005": {}}})"), HasSubstr("3000-3005"));
  EXPECT_THAT(hint(R"({"portsAttributes": {"3000-2999": {}}})"), HasSubstr("3000-3005"));
  EXPECT_THAT(hint(R"({"portsAttributes": {"8080:80": {}}})"), HasSubstr("appPort"));
  EXPECT_THAT(hint(R"({"portsAttributes": {"10.0.0.1:80": {}}})"), HasSubstr("address"));
  EXPECT_THAT(hint(R"({"portsAttributes": {"${localWorkspaceFolder}": {}}})"),
              HasSubstr("localEnv"));
  EXPECT_THAT(hint(R"({"portsAttributes": {"99999": {}}})"), HasSubstr("65535"));
  EXPECT_THAT(hint("{\n  \"forwardPorts\": [3000\n}"), HasSubstr("line 3, column 1"));
  EXPECT_THAT(hint("// ports\n{\"forwardPorts\": [8000-8010]}"), HasSubstr("line 2, column 23"));
}

TEST(PortMetadata, VariablesOfTheUsersEnvironmentAreSubstituted) {
  const Environment environment = [](const std::string& name) {
    return name == "PORT" ? std::optional<std::string>("8081") : std::nullopt;
  };
  const auto read = parse_port_metadata(
      R"({"forwardPorts": ["${localEnv:PORT}", "${localEnv:OTHER:3000}", "db:${localEnv:NO:5432}"],
          "appPort": "1${localEnv:PORT}:80",
          "portsAttributes": {"${localEnv:PORT}": {"label": "it"}, "${env:NO:1}-2": {}}})",
      environment);
  EXPECT_THAT(read.complaints, testing::IsEmpty());
  const std::vector<WantedPort> expected{
      {"", 8081, {}}, {"", 3000, {}}, {"db", 5432, {}}, {"", 80, Port{18081}, true}};
  EXPECT_EQ(read.wanted, expected);
  EXPECT_EQ(attributes_for(read, "", true, 8081, "")->label, "it");
  EXPECT_NE(attributes_for(read, "", true, 2, ""), nullptr);
}

TEST(PortMetadata, AComplaintShowsNoValueOfAVariable) {
  const auto read = parse_port_metadata(
      R"({"forwardPorts": ["${localEnv:TOKEN}"], "portsAttributes": {"${localEnv:TOKEN}(": {}}})",
      [](const std::string&) { return std::optional<std::string>("sesame"); });
  ASSERT_EQ(read.complaints.size(), 2U);
  for (const std::string& complaint : read.complaints) {
    EXPECT_THAT(complaint, testing::Not(HasSubstr("sesame")));
  }
}

}  // namespace
}  // namespace portfwd::devcontainer
