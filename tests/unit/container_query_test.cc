// Queries for containers: several in a request; engines that are late, absent or broken.
#include "engine/container_query.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <memory>

#include "support/http_server.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;
using testing_support::HttpReply;
using testing_support::HttpServer;
using testing_support::TempDir;

std::string id_of(char digit) {
  return std::string(64, digit);
}
std::string entry_of(char digit, const std::string& name) {
  return R"({"Id":")" + id_of(digit) + R"(","Names":[")" + name + R"("]})";
}

struct ContainerQueryTest : testing::Test {
  std::string path(const char* name) const { return folder.path() + "/" + name; }
  std::unique_ptr<HttpServer> serve(const char* name, HttpServer::Script script) {
    return std::make_unique<HttpServer>(loop, path(name), std::move(script));
  }
  template <class Done>
  bool turn_until(Done done) {
    for (const TimePoint end = loop.now() + 20s; !done() && loop.now() < end;) {
      EXPECT_TRUE(loop.turn(end - loop.now()));
    }
    return done();
  }

  TempDir folder;
  SystemClock clock;
  EventLoop loop{clock};
  HttpClient http{loop};
  std::vector<std::string> told;
  ContainerQuery query{loop,
                       http,
                       EngineKind::Docker,
                       {path("one"), path("two")},
                       [this](const std::string& socket, const ContainerFacts& facts) {
                         told.push_back(facts.name + " at " + socket.substr(socket.rfind('/') + 1));
                       },
                       [this](const std::string&) { told.emplace_back("nothing"); }};
};

TEST_F(ContainerQueryTest, QueriesContainersThatStartTogetherInOneRequest) {
  const auto one = serve("one", [](const std::string&) {
    return HttpReply::ok("[" + entry_of('a', "web") + "," + entry_of('b', "db") + "]");
  });
  query.request(id_of('a'));
  query.request(id_of('b'));
  ASSERT_TRUE(turn_until([&] { return query.idle(); }));
  EXPECT_THAT(told, UnorderedElementsAre("web at one", "db at one"));
  ASSERT_EQ(one->requests().size(), 1U);
  EXPECT_THAT(one->requests()[0],
              HasSubstr("GET /containers/json?all=true&filters=%7B%22id%22%3A"
                        "%5B%22" +
                        id_of('a') + "%22%2C%22" + id_of('b') + "%22%5D%7D HTTP/1.1\r\n"));
}

TEST_F(ContainerQueryTest, QueriesTheNextEngineForUnknownContainers) {
  const auto one = serve(
      "one", [](const std::string&) { return HttpReply::ok("[" + entry_of('a', "web") + "]"); });
  const auto two = serve(
      "two", [](const std::string&) { return HttpReply::ok("[" + entry_of('b', "db") + "]"); });
  query.request(id_of('a'));
  query.request(id_of('b'));
  ASSERT_TRUE(turn_until([&] { return query.idle(); }));
  EXPECT_THAT(told, ElementsAre("web at one", "db at two"));
  EXPECT_EQ(two->requests()[0].find(id_of('a')), std::string::npos);
}

TEST_F(ContainerQueryTest, RetriesUntilTheEngineKnowsTheContainer) {
  int asked = 0;
  const auto two = serve("two", [&](const std::string&) {
    return HttpReply::ok(++asked == 1 ? "[]" : "[" + entry_of('a', "web") + "]");
  });
  query.request(id_of('a'));
  ASSERT_TRUE(turn_until([&] { return query.idle(); }));
  EXPECT_THAT(told, ElementsAre("nothing", "web at two"));
}

TEST_F(ContainerQueryTest, MakesNoRequestWithoutASocket) {
  query.request(id_of('a'));
  std::size_t calls = 0;
  ASSERT_TRUE(turn_until([&] {
    calls += http.calls();
    return query.idle();
  }));
  EXPECT_EQ(calls, 0U);
  EXPECT_THAT(told, ElementsAre("nothing"));
}

TEST_F(ContainerQueryTest, DoesNotRetryWithoutAnEngine) {
  for (const char* name : {"one", "two"}) std::ofstream(path(name)) << "left over";
  const TimePoint before = loop.now();
  query.request(id_of('a'));
  ASSERT_TRUE(turn_until([&] { return query.idle(); }));
  EXPECT_LT(loop.now() - before, 1s);
  EXPECT_THAT(told, ElementsAre("nothing"));
}

TEST_F(ContainerQueryTest, QueriesTheNextEngineAfterABrokenOne) {
  for (const HttpReply& reply :
       {HttpReply::ok("nonsense"), HttpReply::with(500, "{}"), HttpReply{}, HttpReply{"garbage"}}) {
    told.clear();
    const auto one = serve("one", [&](const std::string&) { return reply; });
    const auto two = serve(
        "two", [](const std::string&) { return HttpReply::ok("[" + entry_of('a', "web") + "]"); });
    query.request(id_of('a'));
    ASSERT_TRUE(turn_until([&] { return query.idle(); }));
    EXPECT_THAT(told, ElementsAre("web at two"));
  }
}

TEST_F(ContainerQueryTest, IgnoresContainersThatWereNotRequested) {
  const auto one = serve("one", [](const std::string&) {
    return HttpReply::ok("[" + entry_of('c', "other") + "," + entry_of('a', "web") + "]");
  });
  query.request(id_of('a'));
  ASSERT_TRUE(turn_until([&] { return query.idle(); }));
  EXPECT_THAT(told, ElementsAre("web at one"));
}

TEST_F(ContainerQueryTest, DoesNotReportForgottenContainers) {
  bool asked = false;
  const auto one = serve("one", [&](const std::string&) {
    asked = true;
    return HttpReply{"", HttpReply::Then::Stay};
  });
  query.request(id_of('a'));
  ASSERT_TRUE(turn_until([&] { return asked; }));
  query.forget(id_of('a'));
  EXPECT_TRUE(query.idle());
  one->send_to_all(HttpReply::ok("[" + entry_of('a', "web") + "]").bytes);
  ASSERT_TRUE(turn_until([&] { return http.calls() == 0; }));
  EXPECT_TRUE(told.empty());
}

TEST_F(ContainerQueryTest, QueriesFiftyContainersInTwoRequests) {
  const auto one = serve("one", [](const std::string& request) {
    std::string all;
    for (auto at = request.find("%22", 50); at < request.find(" HTTP");
         at = request.find("%22", at + 3)) {
      const std::string id = request.substr(at + 3, 64);
      if (id.find('%') == id.npos) all += (all.empty() ? "" : ",") + (R"({"Id":")" + id + R"("})");
    }
    return HttpReply::ok("[" + all + "]");
  });
  for (int i = 0; i < 50; ++i) query.request(std::to_string(100 + i) + std::string(61, 'f'));
  ASSERT_TRUE(turn_until([&] { return query.idle(); }));
  EXPECT_EQ(told.size(), 50U);
  EXPECT_EQ(one->requests().size(), 2U);
}

TEST_F(ContainerQueryTest, IgnoresInvalidIds) {
  query.request("web\" HTTP/1.1");
  query.request("");
  EXPECT_TRUE(query.idle());
}

}  // namespace
}  // namespace portfwd
