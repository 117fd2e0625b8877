// Renames reported by engines: Docker's stream of events, podman's events.log.
#include "engine/engine_events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>

#include "support/captured.h"
#include "support/http_server.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing_support::captured;
using testing_support::HttpReply;
using testing_support::HttpServer;
using testing_support::TempDir;

struct EngineEventsTest : testing::Test {
  template <class Done>
  bool turn_until(Done done) {
    for (const TimePoint end = loop.now() + 20s; !done() && loop.now() < end;) {
      EXPECT_TRUE(loop.turn(end - loop.now()));
    }
    return done();
  }
  DockerEvents::OnEvent note() {
    return [this](const ContainerEvent& event) { names.push_back(event.name); };
  }

  TempDir folder;
  const std::string socket = folder.path() + "/docker.sock";
  SystemClock clock;
  EventLoop loop{clock};
  HttpClient http{loop};
  std::vector<std::string> names;
};

const HttpReply kStream{"HTTP/1.1 200 OK\r\n\r\n", HttpReply::Then::Stay};

TEST_F(EngineEventsTest, ReportsARenameFromDockersStream) {
  HttpServer server(loop, socket, [](const std::string&) { return kStream; });
  const DockerEvents events(loop, http, socket, note(), [] {});
  ASSERT_TRUE(turn_until([&] { return events.is_open(); }));
  server.send_to_all("{}\nnonsense\n" + captured("engine/docker-20.10-rename.json"));
  ASSERT_TRUE(turn_until([&] { return !names.empty(); }));
  EXPECT_THAT(names, ElementsAre("eside2"));
}

TEST_F(EngineEventsTest, ReopensTheStreamAfterARestartOfTheEngine) {
  int missed = 0;
  auto server =
      std::make_unique<HttpServer>(loop, socket, [](const std::string&) { return kStream; });
  const DockerEvents events(loop, http, socket, note(), [&] { ++missed; });
  ASSERT_TRUE(turn_until([&] { return events.is_open(); }));
  EXPECT_EQ(missed, 0);
  server.reset();
  ASSERT_TRUE(turn_until([&] { return !events.is_open(); }));
  server = std::make_unique<HttpServer>(loop, socket, [](const std::string&) { return kStream; });
  ASSERT_TRUE(turn_until([&] { return events.is_open(); }));
  EXPECT_EQ(missed, 1) << "renames during the interruption are unknown";
}

TEST_F(EngineEventsTest, DoublesThePauseWhileStreamsEndAtOnce) {
  HttpServer server(loop, socket,
                    [](const std::string&) { return HttpReply{"HTTP/1.1 200 OK\r\n\r\n"}; });
  const DockerEvents events(loop, http, socket, note(), [] {});
  const TimePoint begin = loop.now();
  ASSERT_TRUE(turn_until([&] { return server.requests().size() == 4; }));
  EXPECT_GE(loop.now() - begin, 250ms + 500ms + 1s);
}

struct PodmanEventsTest : EngineEventsTest {
  void append(const std::string& text) { std::ofstream(path, std::ios::app) << text << std::flush; }
  const std::string path = folder.path() + "/events.log";
  const std::string line = captured("engine/podman-4.3-rename.json");
};

TEST_F(PodmanEventsTest, ReportsARenameFromPodmansFileOnce) {
  append(line);
  PodmanEvents events(loop, note());
  ASSERT_TRUE(events.start(path));
  append("half a li");
  append("ne\n" + line);
  ASSERT_TRUE(turn_until([&] { return !names.empty(); }));
  EXPECT_THAT(names, ElementsAre("bridged2")) << "lines written before the start are ignored";
  append(line.substr(0, 20));
  append(line.substr(20));
  ASSERT_TRUE(turn_until([&] { return names.size() == 2; }));
}

TEST_F(PodmanEventsTest, ReadsATruncatedFileFromItsBeginning) {
  append(std::string(10'000, 'x') + "\n");
  PodmanEvents events(loop, note());
  ASSERT_TRUE(events.start(path));
  std::ofstream(path, std::ios::trunc) << line << std::flush;
  EXPECT_TRUE(turn_until([&] { return names.size() == 1; }));
}

TEST_F(PodmanEventsTest, FailsWithoutAFileAndDropsALineWithoutEnd) {
  PodmanEvents events(loop, note());
  EXPECT_EQ(events.start(path).error().code, ENOENT);
  append("");
  ASSERT_TRUE(events.start(path));
  append(std::string(1 << 20, 'x'));
  append("\n" + line);
  EXPECT_TRUE(turn_until([&] { return names.size() == 1; }));
}

}  // namespace
}  // namespace portfwd
