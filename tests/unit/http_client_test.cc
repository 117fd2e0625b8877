// HttpClient against a real server that answers correctly, late, wrongly or not at all.
#include "engine/http_client.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support/http_server.h"
#include "support/manual_clock.h"
#include "support/temp_dir.h"

namespace portfwd {
namespace {

using namespace std::chrono_literals;
using testing_support::HttpReply;
using testing_support::HttpServer;
using testing_support::TempDir;

struct Lines {
  HttpStream callbacks() {
    return {.on_open = [this] { ++opened; },
            .on_line =
                [this](std::string_view line) {
                  lines.emplace_back(line);
                  if (then) then();
                },
            .on_end = [this](const Error& why) { end = why; }};
  }
  int opened = 0;
  std::vector<std::string> lines;
  std::optional<Error> end;
  std::move_only_function<void()> then;
};

struct HttpClientTest : testing::Test {
  template <class Done>
  bool turn_until(Done done, Duration deadline = 20s) {
    for (const TimePoint end = loop.now() + deadline; !done() && loop.now() < end;) {
      EXPECT_TRUE(loop.turn(end - loop.now()));
    }
    return done();
  }
  void serve(HttpServer::Script script, int backlog = 16) {
    server.emplace(loop, folder.path() + "/engine.sock", std::move(script), backlog);
  }
  void serve(HttpReply reply) {
    serve([reply](const std::string&) { return reply; });
  }
  HttpRequest to_server(std::string path = "/x") {
    return {.socket = folder.path() + "/engine.sock", .path = std::move(path)};
  }
  Result<HttpAnswer> answer_to(HttpRequest request) {
    std::optional<Result<HttpAnswer>> got;
    const HttpCall call =
        client.send_request(std::move(request), [&](auto answer) { got = std::move(answer); });
    EXPECT_FALSE(got) << "no callback from within ask()";
    EXPECT_TRUE(turn_until([&] { return got.has_value(); }));
    return got.value_or(fail("no answer", ETIME));
  }
  int error_of(HttpRequest request) {
    const auto answer = answer_to(std::move(request));
    return answer ? 0 : answer.error().code;
  }

  TempDir folder;
  SystemClock clock;
  EventLoop loop{clock};
  std::optional<HttpServer> server;
  HttpClient client{loop};
  Lines lines;
};

TEST_F(HttpClientTest, GetsAnAnswer) {
  serve(HttpReply::ok("[1,2]"));
  const auto answer = answer_to(to_server("/v1.40/containers/json?all=1"));
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->body, "[1,2]");
  EXPECT_TRUE(
      server->requests().at(0).starts_with("GET /v1.40/containers/json?all=1 HTTP/1.1\r\n"));
}

TEST_F(HttpClientTest, PostsAJsonBody) {
  serve(HttpReply::with(201, "{}"));
  HttpRequest request = to_server("/containers/create");
  request.method = HttpRequest::Method::Post;
  request.body = R"({"Image":"a"})";
  const auto answer = answer_to(request);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->status, 201);
  const std::string& seen = server->requests().at(0);
  EXPECT_TRUE(seen.starts_with("POST /containers/create HTTP/1.1\r\n"));
  EXPECT_NE(seen.find("Content-Type: application/json\r\n"), seen.npos);
  EXPECT_TRUE(seen.ends_with("\r\n\r\n" + request.body));
}

TEST_F(HttpClientTest, PostsWithoutABody) {
  serve(HttpReply{"HTTP/1.1 204 No Content\r\n\r\n"});
  HttpRequest request = to_server("/containers/a/start");
  request.method = HttpRequest::Method::Post;
  const auto answer = answer_to(request);
  ASSERT_TRUE(answer) << answer.error().text();
  EXPECT_EQ(answer->status, 204);
}

TEST_F(HttpClientTest, Deletes) {
  serve(HttpReply{"HTTP/1.1 204 No Content\r\n\r\n"});
  HttpRequest request = to_server("/containers/a?force=1");
  request.method = HttpRequest::Method::Delete;
  EXPECT_EQ(error_of(request), 0);
  EXPECT_TRUE(server->requests().at(0).starts_with("DELETE /containers/a?force=1 HTTP/1.1\r\n"));
}

TEST_F(HttpClientTest, ReturnsAnErrorStatusWithItsBody) {
  serve(HttpReply::with(404, R"({"message":"No such container"})"));
  const auto answer = answer_to(to_server());
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 404);
  EXPECT_EQ(answer->body, R"({"message":"No such container"})");
}

TEST_F(HttpClientTest, ReadsChunks) {
  serve(HttpReply{
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"});
  EXPECT_EQ(answer_to(to_server())->body, "abcde");
}

TEST_F(HttpClientTest, FollowsNoRedirect) {
  serve(HttpReply{
      "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"});
  EXPECT_EQ(answer_to(to_server())->status, 302);
}

TEST_F(HttpClientTest, ReportsWhyItCannotConnect) {
  EXPECT_EQ(error_of(to_server()), ENOENT);
  HttpRequest refused = to_server();
  {
    serve(HttpReply{});
    std::filesystem::rename(server->path(), folder.path() + "/left-over");
    server.reset();
    refused.socket = folder.path() + "/left-over";
  }
  EXPECT_EQ(error_of(refused), ECONNREFUSED);
  refused.socket = folder.path() + "/" + std::string(200, 'a');
  EXPECT_EQ(error_of(refused), ENAMETOOLONG);
}

TEST_F(HttpClientTest, TimesOutIfTheServerNeverAccepts) {
  serve(HttpServer::Script(), 0);
  HttpRequest request = to_server();
  request.deadline = 50ms;
  EXPECT_EQ(error_of(request), ETIMEDOUT);
  const HttpCall fills_the_backlog = client.send_request(to_server(), [](auto) {});
  EXPECT_NE(error_of(request), 0);
}

TEST_F(HttpClientTest, TimesOutIfTheServerNeverAnswers) {
  serve(HttpReply{"", HttpReply::Then::Stay});
  HttpRequest request = to_server();
  request.deadline = 50ms;
  EXPECT_EQ(error_of(request), ETIMEDOUT);
}

TEST_F(HttpClientTest, TimesOutIfTheAnswerIsTooSlow) {
  HttpReply drip = HttpReply::ok(std::string(100'000, 'a'));
  drip.then = HttpReply::Then::Drip;
  serve(drip);
  HttpRequest request = to_server();
  request.deadline = 200ms;
  EXPECT_EQ(error_of(request), ETIMEDOUT);
}

TEST_F(HttpClientTest, AcceptsASlowAnswerBeforeTheDeadline) {
  HttpReply drip = HttpReply::ok("slow");
  drip.then = HttpReply::Then::Drip;
  serve(drip);
  EXPECT_EQ(answer_to(to_server())->body, "slow");
}

TEST_F(HttpClientTest, FailsIfTheAnswerEndsEarly) {
  serve(HttpReply{"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"});
  EXPECT_EQ(error_of(to_server()), ECONNRESET);
  server.reset();
  serve(HttpReply{});
  EXPECT_EQ(error_of(to_server()), ECONNRESET);
}

TEST_F(HttpClientTest, IgnoresBytesBeyondTheContentLength) {
  serve(HttpReply{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef"});
  EXPECT_EQ(answer_to(to_server())->body, "abc");
}

TEST_F(HttpClientTest, StopsAtTheLimitWhateverTheContentLength) {
  for (const char* length : {"Content-Length: 1073741824\r\n", ""}) {
    server.reset();
    serve(HttpReply{std::string("HTTP/1.1 200 OK\r\n") + length + "\r\n", HttpReply::Then::Repeat});
    HttpRequest request = to_server();
    request.limit = 1 << 20;
    EXPECT_EQ(error_of(request), EMSGSIZE) << length;
    EXPECT_LT(server->sent(), 8U << 20) << length;
    EXPECT_TRUE(turn_until([&] { return server->connections() == 0; })) << length;
  }
}

TEST_F(HttpClientTest, StopsAtAnEndlessHeader) {
  serve(HttpReply{"HTTP/1.1 200 OK\r\n", HttpReply::Then::Repeat, "X-More: of the same\r\n"});
  EXPECT_EQ(error_of(to_server()), EMSGSIZE);
}

TEST_F(HttpClientTest, RejectsAnAnswerThatIsNotHttp) {
  serve(HttpReply{"SSH-2.0-OpenSSH_9.2\r\n"});
  EXPECT_NE(error_of(to_server()), 0);
  server.reset();
  serve(HttpReply{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nthis is no chunk\r\n"});
  EXPECT_NE(error_of(to_server()), 0);
}

TEST_F(HttpClientTest, RejectsAPathWithAnInjectedRequest) {
  serve(HttpReply::ok(""));
  EXPECT_NE(error_of(to_server("/a HTTP/1.1\r\nX: y")), 0);
  EXPECT_TRUE(server->requests().empty());
}

TEST_F(HttpClientTest, CancelsACallThatIsDestroyed) {
  serve(HttpReply{"", HttpReply::Then::Stay});
  {
    const HttpCall call =
        client.send_request(to_server(), [](auto) { FAIL() << "callback of a cancelled call"; });
    ASSERT_TRUE(turn_until([&] { return server->connections() == 1; }));
  }
  EXPECT_EQ(client.calls(), 0U);
  EXPECT_TRUE(turn_until([&] { return server->connections() == 0; }));
}

TEST_F(HttpClientTest, AllowsACallbackToCancelAndBeginCalls) {
  serve(HttpReply::ok("x"));
  HttpCall others[3], again;
  bool done = false;
  const HttpCall first = client.send_request(to_server(), [&](auto) {
    for (HttpCall& other : others) other.cancel();
    again = client.send_request(to_server(), [&](auto) { done = true; });
  });
  int answered = 0;
  for (HttpCall& other : others)
    other = client.send_request(to_server(), [&](auto) { ++answered; });
  EXPECT_TRUE(turn_until([&] { return done; }));
  EXPECT_LT(answered, 4);
  EXPECT_EQ(client.calls(), 0U);
}

TEST_F(HttpClientTest, AnswersFiftyAtOnceAndKeepsNoDescriptor) {
  serve([](const std::string& request) { return HttpReply::ok(request.substr(4, 4)); }, 64);
  const auto open_fds = [] {
    const std::filesystem::directory_iterator fds("/proc/self/fd");
    return std::distance(begin(fds), end(fds));
  };
  (void)answer_to(to_server());
  const auto before = open_fds();
  std::vector<HttpCall> calls;
  int right = 0;
  for (int i = 0; i < 50; ++i) {
    const std::string path = "/" + std::to_string(100 + i);
    calls.push_back(client.send_request(to_server(path), [&right, path](auto answer) {
      right += answer && answer->body == path ? 1 : 0;
    }));
  }
  EXPECT_TRUE(turn_until([&] { return right == 50 && server->connections() == 0; })) << right;
  EXPECT_EQ(open_fds(), before);
}

TEST_F(HttpClientTest, ReportsLinesOfAStreamAsTheyArrive) {
  serve(HttpReply{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n",
                  HttpReply::Then::Stay});
  const HttpCall call = client.stream(to_server("/events"), lines.callbacks());
  ASSERT_TRUE(turn_until([&] { return lines.lines.size() == 1; }));
  EXPECT_EQ(lines.opened, 1);
  server->send_to_all("6\r\ntwo\r\nt\r\n");
  ASSERT_TRUE(turn_until([&] { return lines.lines.size() == 2; }));
  server->send_to_all("5\r\nhree\n\r\n");
  ASSERT_TRUE(turn_until([&] { return lines.lines.size() == 3; }));
  EXPECT_EQ(lines.lines, (std::vector<std::string>{"one", "two", "three"}));
  EXPECT_FALSE(lines.end);
  server->send_to_all("0\r\n\r\n");
  ASSERT_TRUE(turn_until([&] { return lines.end.has_value(); }));
  EXPECT_EQ(lines.end->code, ENODATA);
}

TEST(HttpClientOnAManualClock, OpensAStreamWithoutLinesAndIgnoresTheDeadlineAfterwards) {
  const TempDir folder;
  testing_support::ManualClock clock;
  EventLoop loop{clock};
  const HttpReply begun{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                        HttpReply::Then::Stay};
  HttpServer server(loop, folder.path() + "/e", [&](const std::string&) { return begun; });
  HttpClient client{loop};
  Lines lines;
  const HttpCall call =
      client.stream({.socket = folder.path() + "/e", .path = "/events"}, lines.callbacks());
  for (int i = 0; i < 100 && lines.opened == 0; ++i) ASSERT_TRUE(loop.turn(1s));
  EXPECT_EQ(lines.opened, 1);
  clock.advance(1h);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(loop.turn(1ms));
  EXPECT_FALSE(lines.end);
  EXPECT_EQ(client.calls(), 1U);
}

TEST_F(HttpClientTest, EndsAStreamThatNeverBegins) {
  serve(HttpReply{"", HttpReply::Then::Stay});
  HttpRequest request = to_server("/events");
  request.deadline = 50ms;
  const HttpCall call = client.stream(request, lines.callbacks());
  ASSERT_TRUE(turn_until([&] { return lines.end.has_value(); }));
  EXPECT_EQ(lines.end->code, ETIMEDOUT);
  EXPECT_EQ(lines.opened, 0);
}

TEST_F(HttpClientTest, EndsAStreamThatIsRefused) {
  serve(HttpReply::with(500, "{}\n{}\n"));
  const HttpCall call = client.stream(to_server("/events"), lines.callbacks());
  ASSERT_TRUE(turn_until([&] { return lines.end.has_value(); }));
  EXPECT_EQ(lines.end->code, EPROTO);
  EXPECT_TRUE(lines.lines.empty());
}

TEST_F(HttpClientTest, EndsAStreamWhoseLineIsTooLongButNotALongOne) {
  std::string many;
  for (int i = 0; i < 100'000; ++i) many += "{\"i\":" + std::to_string(i) + "}\n";
  serve(HttpReply{"HTTP/1.1 200 OK\r\n\r\n" + many, HttpReply::Then::Repeat});
  HttpRequest request = to_server("/events");
  request.limit = 64 << 10;
  const HttpCall call = client.stream(request, lines.callbacks());
  ASSERT_TRUE(turn_until([&] { return lines.end.has_value(); }));
  EXPECT_EQ(lines.end->code, EMSGSIZE);
  EXPECT_EQ(lines.lines.size(), 100'000U);
}

TEST_F(HttpClientTest, AllowsALineToCancelItsStream) {
  serve(HttpReply{"HTTP/1.1 200 OK\r\n\r\none\ntwo\n", HttpReply::Then::Stay});
  HttpCall call = client.stream(to_server("/events"), lines.callbacks());
  lines.then = [&] { call.cancel(); };
  ASSERT_TRUE(turn_until([&] { return client.calls() == 0; }));
  EXPECT_EQ(lines.lines.size(), 1U);
  EXPECT_FALSE(lines.end);
}

TEST_F(HttpClientTest, ServesOtherHandlersWhileAnEngineFloodsIt) {
  const std::string line = std::string(65535, 'x') + "\n";
  serve(HttpReply{"HTTP/1.1 200 OK\r\n\r\n", HttpReply::Then::Repeat, line});
  const HttpCall call = client.stream(to_server(), lines.callbacks());
  int ticks = 0;
  Timer tick(loop, [&] {
    ++ticks;
    tick.arm_now();
  });
  tick.arm_now();
  ASSERT_TRUE(turn_until([&] { return lines.lines.size() > 200; }));
  EXPECT_GT(ticks, 5);
}

}  // namespace
}  // namespace portfwd
