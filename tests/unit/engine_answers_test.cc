// Parsing of engines' answers: recorded ones, and malformed ones.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/answers.h"
#include "support/captured.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing_support::captured;

std::map<std::string, ContainerFacts> by_name(const std::string& file) {
  std::map<std::string, ContainerFacts> all;
  const auto list = parse_container_list(captured("engine/" + file));
  EXPECT_TRUE(list) << file;
  for (const ContainerFacts& facts : list.value_or(std::vector<ContainerFacts>())) {
    EXPECT_EQ(facts.id.size(), 64U);
    all[facts.name] = facts;
  }
  return all;
}

std::vector<std::string> names_in(const std::string& file) {
  std::vector<std::string> names;
  for (const auto& [name, facts] : by_name(file)) names.push_back(name);
  return names;
}

TEST(EngineAnswers, ReadsAllFactsOfPodman43) {
  const auto all = by_name("podman-4.3-libpod.json");
  const ContainerFacts& web = all.at("web");
  EXPECT_EQ(web.image, "localhost/bb:1");
  EXPECT_EQ(web.state, "running");
  EXPECT_GT(web.pid, 0);
  EXPECT_EQ(web.project, "shop");
  EXPECT_EQ(web.service, "web");
  EXPECT_EQ(web.pod, "");
  EXPECT_THAT(web.published, ElementsAre(PublishedPorts{Protocol::Tcp, "127.0.0.1", 18081, 8081, 1},
                                         PublishedPorts{Protocol::Udp, "", 18100, 8100, 3}));
  EXPECT_THAT(all.at("nonet").labels, IsEmpty());
  EXPECT_THAT(all.at("nonet").published, IsEmpty());
}

TEST(EngineAnswers, ReadsPodAndInfraContainer) {
  const auto all = by_name("podman-4.3-libpod.json");
  EXPECT_EQ(all.at("podweb").pod, "mypod");
  EXPECT_FALSE(all.at("podweb").infra);
  EXPECT_TRUE(all.at("f3c5648f9d85-infra").infra);
  EXPECT_THAT(all.at("podweb").published,
              ElementsAre(PublishedPorts{Protocol::Tcp, "", 18099, 8099, 1}))
      << "published by the pod";
}

TEST(EngineAnswers, ReadsPodmansCompatibleAnswer) {
  const ContainerFacts web = by_name("podman-4.3-compat.json").at("web");
  EXPECT_EQ(web.project, "shop");
  EXPECT_EQ(web.published.size(), 2U);
}

TEST(EngineAnswers, ReadsPodman54) {
  EXPECT_THAT(names_in("podman-5.4-compat.json"), names_in("podman-5.4-libpod.json"));
  const auto all = by_name("podman-5.4-libpod.json");
  EXPECT_EQ(all.at("web").service, "web");
  EXPECT_EQ(all.at("idle").state, "created");
  EXPECT_EQ(all.at("br").published.size(), 2U);
}

TEST(EngineAnswers, ReadsAllFactsOfDocker2010) {
  const auto all = by_name("docker-20.10.json");
  const ContainerFacts& web = all.at("edweb");
  EXPECT_EQ(web.image, "bb:1");
  EXPECT_TRUE(web.image_id.starts_with("sha256:"));
  EXPECT_EQ(web.project, "shop");
  EXPECT_EQ(web.service, "api");
  EXPECT_EQ(web.pid, 0) << "Docker's list contains no pid";
  EXPECT_THAT(web.published, ElementsAre(PublishedPorts{Protocol::Tcp, "127.0.0.1", 18181, 8081, 1},
                                         PublishedPorts{Protocol::Udp, "", 18182, 8082, 1}))
      << "the wildcards of both families are joined";
  EXPECT_THAT(web.addresses, ElementsAre(IpAddress::v4(172, 17, 0, 2)));
  EXPECT_EQ(all.at("eside").network_mode, "container:" + web.id);
  EXPECT_EQ(all.at("ehost").network_mode, "host");
}

TEST(EngineAnswers, ReadsDocker261) {
  EXPECT_THAT(names_in("docker-26.1.json"), ElementsAre("edweb", "eidle", "eside"));
}

TEST(EngineAnswers, ReadsARename) {
  const auto docker = parse_container_event(captured("engine/docker-20.10-rename.json"));
  ASSERT_TRUE(docker);
  EXPECT_EQ(docker->action, "rename");
  EXPECT_EQ(docker->name, "eside2");
  EXPECT_EQ(docker->id.size(), 64U);
  const auto podman = parse_container_event(captured("engine/podman-4.3-rename.json"));
  ASSERT_TRUE(podman);
  EXPECT_EQ(podman->action, "rename");
  EXPECT_EQ(podman->name, "bridged2");
}

TEST(EngineAnswers, ReadsTheIdThatComposeReplaces) {
  const std::string docker =
      R"({"Type":"container","Action":"create","Actor":{"ID":"d","Attributes":
      {"com.docker.compose.replace":"web-1","name":"0123456789ab_shop-web-1"}}})";
  EXPECT_EQ(parse_container_event(docker)->replaces, "0123456789ab");
  const std::string podman = R"({"Type":"container","Status":"create","ID":"p",
      "Name":"0123456789ab_shop-web-1","Attributes":{"com.docker.compose.replace":"0123"}})";
  EXPECT_EQ(parse_container_event(podman)->replaces, "0123456789ab");
}

TEST(EngineAnswers, ReadsNoReplacementFromOtherEvents) {
  for (const char* event :
       {R"({"Type":"container","Status":"create","ID":"p","Name":"0123456789ab_web"})",
        R"({"Type":"container","Status":"create","ID":"p","Name":"web",
            "Attributes":{"com.docker.compose.replace":"0123"}})",
        R"({"Type":"container","Status":"create","ID":"p","Name":"0123456789ab",
            "Attributes":{"com.docker.compose.replace":"0123"}})",
        R"({"Type":"container","Status":"start","ID":"p","Name":"0123456789ab_web",
            "Attributes":{"com.docker.compose.replace":"0123"}})"}) {
    EXPECT_EQ(parse_container_event(event)->replaces, "") << event;
  }
}

TEST(EngineAnswers, ReadsNamesFromPodmansStorage) {
  const auto list = parse_stored_containers(captured("engine/podman-4.3-containers.json"));
  ASSERT_EQ(list.size(), 2U);
  EXPECT_EQ(list.front().id.size(), 64U);
  EXPECT_EQ(list.front().name, "shop");
  EXPECT_EQ(list.front().image, "localhost/portfwd-e2e:latest");
  EXPECT_THAT(parse_stored_containers(R"([{"id":"a"}, 1, {"id":1,"names":["x"]}])"), IsEmpty());
  EXPECT_THAT(parse_stored_containers("{}"), IsEmpty());
}

TEST(EngineAnswers, RejectsWhatIsNotAList) {
  for (const char* text : {"", "{}", "null", "[", "\"x\"", "nonsense", "[1,]", "\xff"}) {
    EXPECT_FALSE(parse_container_list(text)) << text;
    EXPECT_FALSE(parse_container_event(text)) << text;
  }
}

TEST(EngineAnswers, IgnoresMembersOfAnotherType) {
  const auto list = parse_container_list(R"([1, [], {}, {"Id": 1}, {"Id": "a", "Names": "b",
      "Labels": {"k": 1, "l": "m"}, "Pid": "7", "PodName": null, "Ports": {"x": 1}, "IsInfra": 1,
      "HostConfig": [], "NetworkSettings": {"Networks": [1]}}])");
  ASSERT_TRUE(list);
  ASSERT_EQ(list->size(), 1U);
  EXPECT_EQ(list->front().id, "a");
  EXPECT_EQ(list->front().name, "");
  EXPECT_EQ(list->front().pid, 0);
  EXPECT_THAT(list->front().labels, ElementsAre(testing::Pair("l", "m")));
}

TEST(EngineAnswers, IgnoresInvalidPorts) {
  const auto list = parse_container_list(R"([{"Id": "a", "Ports": [
      {"PrivatePort": 80, "Type": "tcp"}, {"PrivatePort": 0, "PublicPort": 1, "Type": "tcp"},
      {"PrivatePort": 99999, "PublicPort": 1, "Type": "tcp"},
      {"PrivatePort": -1, "PublicPort": 1, "Type": "tcp"},
      {"PrivatePort": 18446744073709551615, "PublicPort": 1, "Type": "tcp"},
      {"PrivatePort": 80, "PublicPort": 8080, "Type": "sctp"},
      {"container_port": 65000, "host_port": 1000, "range": 1000, "protocol": "tcp"},
      {"container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp,udp"}]}])");
  ASSERT_TRUE(list);
  EXPECT_THAT(list->front().published, ElementsAre(PublishedPorts{Protocol::Tcp, "", 8080, 80, 1},
                                                   PublishedPorts{Protocol::Udp, "", 8080, 80, 1}));
}

TEST(EngineAnswers, UsesNoMemoryForDeepNesting) {
  const std::string deep(1 << 20, '[');
  EXPECT_FALSE(parse_container_list(deep));
  const auto closed = parse_container_list("[{\"Id\":\"a\",\"Labels\":" + deep +
                                           std::string(deep.size(), ']') + "}]");
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->front().id, "a");
}

/// A list of one container "a" with one more member.
std::string with_member(const std::string& key, const std::string& value) {
  return fmt::format(R"([{{"Id": "a", "{}": {}}}])", key, value);
}

TEST(EngineAnswers, SkipsExposedPortsInLinearTime) {  // in quadratic time: a minute
  std::string ports;
  for (int port = 1; port <= 60'000; ++port) {
    for (const char* type : {"tcp", "udp"}) {
      ports += fmt::format(R"({}{{"PrivatePort":{},"Type":"{}"}})", ports.empty() ? "" : ",", port,
                           type);
    }
  }
  ports += R"(,{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"})";
  const auto list = parse_container_list(with_member("Ports", "[" + ports + "]"));
  ASSERT_TRUE(list);
  EXPECT_THAT(list->front().published, ElementsAre(PublishedPorts{Protocol::Tcp, "", 8080, 80, 1}));
}

TEST(EngineAnswers, JoinsAdjacentPublishedPorts) {
  std::string ports;
  for (int port = 20'000; port > 10'000; --port) {
    for (const char* address : {"0.0.0.0", "::"}) {
      ports += fmt::format(R"({}{{"IP":"{}","PrivatePort":{},"PublicPort":{},"Type":"udp"}})",
                           ports.empty() ? "" : ",", address, port, port + 1000);
    }
  }
  const auto list = parse_container_list(with_member("Ports", "[" + ports + "]"));
  ASSERT_TRUE(list);
  EXPECT_THAT(list->front().published,
              ElementsAre(PublishedPorts{Protocol::Udp, "", 11'001, 10'001, 10'000}));
}

TEST(EngineAnswers, LimitsPublishedRanges) {
  std::string ports;
  for (int port = 1; port <= 20'000; ++port) {
    ports += fmt::format(R"({}{{"PrivatePort":{},"PublicPort":{},"Type":"tcp"}})",
                         ports.empty() ? "" : ",", port, 30'000 - port);
  }
  const auto list = parse_container_list(with_member("Ports", "[" + ports + "]"));
  EXPECT_EQ(list->front().published.size(), 1024U);
}

TEST(EngineAnswers, RejectsListsThatAreTooLong) {
  std::string many = "[{}";
  for (int i = 0; i < 1'390'000; ++i) many += ",{}";
  EXPECT_FALSE(parse_container_list(many + "]"));
}

TEST(EngineAnswers, KeepsOwnLabelsOfTooMany) {
  std::string labels;
  for (int i = 0; i < 60'000; ++i) labels += fmt::format(R"("a{:05}": "x",)", i);
  labels += R"("portfwd": "off", "com.docker.compose.service": "db",
               "devcontainer.local_folder": "/w", "devcontainer.metadata": "[]")";
  const auto list = parse_container_list(with_member("Labels", "{" + labels + "}"));
  const auto& kept = list->front().labels;
  EXPECT_EQ(kept.size(), kMostLabels);
  EXPECT_EQ(kept.at("portfwd"), "off");
  EXPECT_EQ(kept.at("devcontainer.local_folder"), "/w");
  EXPECT_EQ(kept.at("devcontainer.metadata"), "[]");
  EXPECT_EQ(kept.at("a00000"), "x");
  EXPECT_EQ(list->front().service, "db");
}

TEST(EngineAnswers, LeavesOutLabelsThatAreTooLong) {
  const auto labels = [](const std::string& text) {
    return parse_container_list(with_member("Labels", text))->front().labels;
  };
  EXPECT_THAT(labels(fmt::format(R"({{"a": "{}", "b": "short"}})", std::string(4097, 'x'))),
              ElementsAre(testing::Pair("b", "short")));
  const std::string metadata(100'000, ' ');
  EXPECT_EQ(labels(fmt::format(R"({{"devcontainer.metadata": "{}"}})", metadata)).size(), 1U);
  std::string many = R"("z": "last")";
  for (int i = 0; i < 60; ++i) many += fmt::format(R"(,"{}": "{}")", i, std::string(4000, 'x'));
  EXPECT_EQ(labels("{" + many + "}").size(), 17U) << "64 KiB in all";
}

TEST(EngineAnswers, ReadsEscapesInKeysAndValues) {
  const auto list = parse_container_list(
      R"([{"Id": "a", "Image": "\u00e9\"", "Labels": {"k\u0031": "\u003cb\u003e \ud83d\ude00"}}])");
  ASSERT_TRUE(list);
  EXPECT_EQ(list->front().image, "\xc3\xa9\"");
  EXPECT_THAT(list->front().labels, ElementsAre(testing::Pair("k1", "<b> \xf0\x9f\x98\x80")));
}

}  // namespace
}  // namespace portfwd
