// Facts of engines in the registry: a real process below a conmon, and a server that answers as
// podman does.
#include "discover/engine_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "build_paths.h"
#include "support/finder.h"
#include "support/http_server.h"
#include "support/kept_process.h"

namespace portfwd {
namespace {

using testing::ElementsAre;
using testing_support::Finder;
using testing_support::HttpReply;
using testing_support::HttpServer;
using testing_support::KeptProcess;
using testing_support::Sandbox;
using testing_support::TempDir;

const std::string kId(64, 'c');

std::string answer(const std::string& name) {
  return R"([{"Id":")" + kId + R"(","Names":[")" + name + R"("],"Image":"docker.io/nginx:1",
      "PodName":"pod","Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"w"},
      "Ports":[{"host_ip":"","container_port":80,"host_port":8080,"range":1,"protocol":"tcp"}]}])";
}

struct EngineFactsTest : testing::Test {
  const Container* container() {
    for (const Container* known : finder.registry.containers()) {
      if (known->engine_id == kId) return known;
    }
    return nullptr;
  }
  bool until_name_is(const std::string& name) {
    return finder.until([&] { return container() != nullptr && container()->name == name; });
  }
  /// The log line of the announcement of the container.
  testing_support::RegistryLog::Line announced() {
    const auto line = std::ranges::find(finder.log.lines, container()->id,
                                        &testing_support::RegistryLog::Line::id);
    return line == finder.log.lines.end() ? testing_support::RegistryLog::Line{} : *line;
  }
  void serve(std::string text) {
    server.emplace(finder.loop, socket, [text](const std::string&) { return HttpReply::ok(text); });
  }

  TempDir folder;
  const std::string socket = folder.path() + "/podman.sock";
  Finder finder;
  HttpClient http{finder.loop};
  std::optional<HttpServer> server;
  Reader files{finder.loop, {.program = PORTFWD_BROKER_PATH, .purpose = broker::Purpose::Files}};
  EngineFacts facts{finder.loop,
                    finder.registry,
                    http,
                    {.podman = {socket}},
                    {folder.path() + "/events.log", folder.path()},
                    files};
  Sandbox sandbox;
};

TEST_F(EngineFactsTest, AppliesTheAnswerOfTheEngineOnce) {
  serve(answer("web"));
  const KeptProcess process(sandbox, kId, "");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_name_is("web"));
  EXPECT_EQ(container()->image, "docker.io/nginx:1");
  EXPECT_EQ(container()->pod, "pod");
  EXPECT_EQ(container()->project, "shop");
  EXPECT_EQ(container()->service, "w");
  EXPECT_EQ(container()->labels.size(), 2U);
  EXPECT_THAT(container()->published, ElementsAre(PublishedPorts{Protocol::Tcp, "", 8080, 80, 1}));
  const auto scans = finder.discovery.figures().scans;
  finder.discovery.hint();
  ASSERT_TRUE(finder.until([&] { return finder.discovery.figures().scans > scans + 2; }));
  EXPECT_EQ(container()->name, "web") << "not that from /proc again";
  EXPECT_EQ(server->requests().size(), 1U);
}

TEST_F(EngineFactsTest, KeepsTheFactsFromProcWithoutAnEngine) {
  const KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  EXPECT_TRUE(until_name_is("from-conmon"));
  ASSERT_TRUE(finder.until([&] { return http.calls() == 0; }));
  EXPECT_EQ(container()->name, "from-conmon");
}

TEST_F(EngineFactsTest, KnowsThatPortsArePublishedBeforeTheEngineAnswers) {
  std::filesystem::copy_file("/bin/sleep", folder.path() + "/rootlessport-child");
  const KeptProcess port_child(sandbox, "", "", folder.path() + "/rootlessport-child 1000");
  const KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(finder.until([&] { return container() != nullptr; }));
  EXPECT_TRUE(container()->publishes_unknown);
  EXPECT_TRUE(finder.until([&] { return !container()->publishes_unknown; })) << "nobody says which";
}

TEST_F(EngineFactsTest, AddsAContainerOfASilentEngine) {
  server.emplace(finder.loop, socket, [](const std::string&) {
    return HttpReply{"", HttpReply::Then::Stay};
  });
  const KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  EXPECT_TRUE(until_name_is("from-conmon"));
}

TEST_F(EngineFactsTest, ReadsNameAndImageFromPodmansStorageBeforeNotifying) {
  const std::string store = folder.path() + "/overlay-containers";
  std::filesystem::create_directory(store);
  std::ofstream(store + "/containers.json")
      << R"([{"id":")" + kId +
             R"(","names":["shop"],"metadata":"{\"image-name\":\"localhost/nginx:1\"}"}])";
  const KeptProcess process(sandbox, kId, "");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(finder.until([&] { return container() != nullptr; }));
  EXPECT_EQ(announced().name, "shop");
  EXPECT_EQ(announced().image, "localhost/nginx:1");
}

TEST_F(EngineFactsTest, MarksAContainerUndecidedUntilItsEngineAnswers) {
  serve(answer("web"));
  const KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(finder.until([&] { return container() != nullptr && !container()->undecided; }));
  EXPECT_TRUE(announced().undecided);
  EXPECT_EQ(container()->labels.size(), 2U);
}

TEST_F(EngineFactsTest, EndsUndecidedAfterATimeout) {
  server.emplace(finder.loop, socket, [](const std::string&) {
    return HttpReply{"", HttpReply::Then::Stay};
  });
  const KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(finder.until([&] { return container() != nullptr && !container()->undecided; }));
  EXPECT_TRUE(announced().undecided);
  EXPECT_EQ(container()->labels.size(), 0U);
}

TEST_F(EngineFactsTest, AppliesARenameFromPodmansEvents) {
  serve(answer("web"));
  std::ofstream(folder.path() + "/events.log") << "{}\n";
  const KeptProcess process(sandbox, kId, "");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_name_is("web"));
  std::ofstream(folder.path() + "/events.log", std::ios::app)
      << R"({"ID":")" + kId + R"(","Name":"web2","Status":"rename","Type":"container"})"
      << "\n";
  EXPECT_TRUE(until_name_is("web2"));
}

TEST_F(EngineFactsTest, AppliesARenameFromPodmansStorage) {
  const std::string store = folder.path() + "/vfs-containers";
  std::filesystem::create_directory(store);
  std::filesystem::create_directory(folder.path() + "/overlay-containers");
  const auto write = [&](const std::string& name) {
    std::ofstream(store + "/new") << R"([{"id":")" + kId + R"(","names":[")" + name + R"("]}])";
    std::filesystem::rename(store + "/new", store + "/containers.json");
  };
  write("renamed-before");
  const KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  EXPECT_TRUE(until_name_is("renamed-before"));
  write("renamed-since");
  EXPECT_TRUE(until_name_is("renamed-since"));
}

TEST_F(EngineFactsTest, ReportsAReplacementFromPodmansStorage) {
  const std::string store = folder.path() + "/overlay-containers";
  std::filesystem::create_directory(store);
  const auto write = [&](const std::string& containers) {
    std::ofstream(store + "/new") << "[" << containers << "]";
    std::filesystem::rename(store + "/new", store + "/containers.json");
  };
  const auto entry = [](const std::string& id, const std::string& name) {
    return R"({"id":")" + id + R"(","names":[")" + name + R"("]})";
  };
  write(entry(kId, "web"));
  KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_name_is("web"));
  write(entry(kId, "web2") + "," + entry("n", kId.substr(0, 12) + "_web"));
  ASSERT_TRUE(until_name_is("web2"));
  process.end();
  ASSERT_TRUE(finder.until([&] { return container() == nullptr; }));
  EXPECT_EQ(finder.log.lines.back().reason, RemovalReason::Replaced);
}

TEST_F(EngineFactsTest, IgnoresDuplicateUnknownAndLateEvents) {
  std::ofstream(folder.path() + "/events.log") << "{}\n";
  const KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_name_is("from-conmon"));
  const auto event = [](const std::string& id, const std::string& what, const std::string& name) {
    return R"({"ID":")" + id + R"(","Name":")" + name + R"(","Status":")" + what +
           R"(","Type":"container"})" + "\n";
  };
  std::ofstream(folder.path() + "/events.log", std::ios::app)
      << event(kId, "died", "x") << event(kId, "remove", "x") << event(kId, "rename", "one")
      << event(kId, "rename", "one") << event(std::string(64, 'f'), "rename", "stranger")
      << event(kId, "start", "x") << event(kId, "create", "x") << event(kId, "rename", "two");
  EXPECT_TRUE(until_name_is("two"));
  EXPECT_EQ(finder.log.added(container()->netns), 1);
  EXPECT_EQ(finder.log.removed(container()->netns), 0) << "what lives is seen, not told";
}

TEST_F(EngineFactsTest, ReportsAReplacementByCompose) {
  std::ofstream(folder.path() + "/events.log") << "{}\n";
  KeptProcess process(sandbox, kId, "from-conmon");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_name_is("from-conmon"));
  std::ofstream(folder.path() + "/events.log", std::ios::app)
      << R"({"Type":"container","Status":"create","ID":"n","Name":")" + kId.substr(0, 12) +
             R"(_web","Attributes":{"com.docker.compose.replace":"web-1"}})" + "\n" + R"({"ID":")" +
             kId + R"(","Name":"told","Status":"rename","Type":"container"})" + "\n";
  ASSERT_TRUE(until_name_is("told")) << "so the line before was read, too";
  process.end();
  ASSERT_TRUE(finder.until([&] { return container() == nullptr; }));
  EXPECT_EQ(finder.log.lines.back().reason, RemovalReason::Replaced);
}

TEST_F(EngineFactsTest, KeepsANameGivenByTheUser) {
  serve(answer("web"));
  const KeptProcess process(sandbox, kId, "");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(finder.attach.attach_pid(process.pid(), "mine"));
  ASSERT_TRUE(finder.until(
      [&] { return container() != nullptr && container()->image == "docker.io/nginx:1"; }));
  EXPECT_EQ(container()->name, "mine");
}

std::string answer_with_folder(const std::string& folder) {
  return R"([{"Id":")" + kId + R"(","Names":["web"],"Image":"nginx","Labels":)" +
         R"({"devcontainer.local_folder":")" + folder + R"("}}])";
}

TEST_F(EngineFactsTest, AppliesTheWorkspaceFileTogetherWithTheFacts) {
  std::filesystem::create_directory(folder.path() + "/.devcontainer");
  std::ofstream(folder.path() + "/shared.json") << R"({"forwardPorts": [3000]})";
  std::filesystem::create_symlink("../shared.json",
                                  folder.path() + "/.devcontainer/devcontainer.json");
  serve(answer_with_folder(folder.path()));
  const KeptProcess process(sandbox, kId, "");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(
      finder.until([&] { return container() != nullptr && container()->image == "nginx"; }));
  ASSERT_NE(container()->metadata, nullptr);
  ASSERT_EQ(container()->metadata->wanted.size(), 1U);
  EXPECT_EQ(container()->metadata->wanted.front().port, 3000);
}

TEST_F(EngineFactsTest, RejectsAWorkspaceFileOutsideOfItsFolder) {
  std::filesystem::create_symlink("/etc", folder.path() + "/.devcontainer");
  serve(answer_with_folder(folder.path()));
  const KeptProcess process(sandbox, kId, "");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(
      finder.until([&] { return container() != nullptr && container()->image == "nginx"; }));
  ASSERT_NE(container()->metadata, nullptr);
  EXPECT_THAT(container()->metadata->complaints,
              ElementsAre(testing::HasSubstr("link leads out of " + folder.path())));
}

TEST_F(EngineFactsTest, SharesPublishedPortsWithinAJoinedNetwork) {
  const std::string other(64, 'd');
  const KeptProcess owner(sandbox, other, "owner"), joined(sandbox, kId, "joined");
  sandbox.end();
  finder.start();
  ASSERT_TRUE(until_name_is("joined"));
  facts.apply({.id = kId, .network_mode = "container:" + other});
  EXPECT_THAT(container()->published, testing::IsEmpty());
  const PublishedPorts ports{Protocol::Tcp, "", 8080, 80, 1};
  facts.apply({.id = other, .published = {ports}});
  EXPECT_THAT(container()->published, ElementsAre(ports)) << "in whichever order they are told";
}

TEST_F(EngineFactsTest, ListsAnEngineOnAnotherMachineAsInaccessible) {
  EngineSockets sockets;
  sockets.elsewhere = {{EngineKind::Docker, "DOCKER_HOST", "ssh://me@far"}};
  const EngineFacts other(finder.loop, finder.registry, http, sockets, {}, files);
  ASSERT_TRUE(finder.until([&] { return !finder.registry.containers().empty(); }));
  const Container& listed = *finder.registry.containers().front();
  EXPECT_EQ(listed.name, "ssh://me@far");
  EXPECT_EQ(listed.engine, "docker");
  EXPECT_THAT(listed.inaccessible, testing::HasSubstr("DOCKER_HOST"));
}

}  // namespace
}  // namespace portfwd
