// What an image, a workspace or an engine's answer can hold: labels, dev container metadata and
// ports without bound.
#include "stall/stall_fixture.h"
#include "support/http_server.h"
#include "support/kept_process.h"

namespace portfwd {
namespace {

using namespace testing_support;

struct StallByMetadata : StallTest {
  static std::string repeated(const std::string& text, int count) {
    std::string out;
    out.reserve(text.size() * static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) out += text;
    return out;
  }
  static std::string nested_lists(int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  }
  /// Dev container metadata with that many different regular expressions.
  static std::string expressions(int count, const std::function<std::string(int)>& expression) {
    Json attributes = Json::object();
    for (int i = 0; i < count; ++i) attributes[expression(i)] = {{"label", "x"}};
    return Json{{"portsAttributes", attributes}}.dump();
  }

  /// One entry of podman's list for container `id`.
  static std::string entry(const std::string& id, const Json& labels,
                           const std::string& ports = "[]") {
    return R"({"Id":")" + id + R"(","Names":["image"],"Image":"x","Labels":)" + labels.dump() +
           R"(,"Ports":)" + ports + "}";
  }
  static HttpReply list_of(const std::string& entries) {
    return HttpReply::ok("[" + entries + "]");
  }
  static std::string metadata_entry(const std::string& id, const std::string& metadata) {
    return entry(id, {{"devcontainer.metadata", metadata}});
  }

  void serve(std::function<HttpReply(const std::string& id)> answer) {
    answer_ = std::move(answer);
    engine_.emplace(loop_, engine_socket(), [this](const std::string&) { return answer_(id_); });
  }
  /// A container of which the engine says that.
  void expect_no_stall_by(std::function<HttpReply(const std::string& id)> answer) {
    serve(std::move(answer));
    expect_no_stall_beside([&] {
      const auto container = new_container();
      go_on_for(1500ms);
    });
  }
  void expect_no_stall_by_metadata(const std::string& metadata) {
    expect_no_stall_by(
        [metadata](const std::string& id) { return list_of(metadata_entry(id, metadata)); });
  }

  /// Known to the engine, which has been asked for it.
  std::unique_ptr<KeptProcess> new_container() {
    id_ = std::to_string(1000 + ++containers_) + std::string(60, 'c');
    const std::size_t asked = engine_->requests().size();
    Sandbox sandbox;
    auto process = std::make_unique<KeptProcess>(sandbox, id_, "image");
    EXPECT_TRUE(until([&] { return engine_->requests().size() > asked || daemon_->ended(); }));
    return process;
  }

  std::function<HttpReply(const std::string&)> answer_;
  std::string id_;
  int containers_ = 0;
  std::optional<HttpServer> engine_;
};

TEST_F(StallByMetadata, IsNotSeenBesideAnAnswerByteByByte) {
  expect_no_stall_by([](const std::string& id) {
    HttpReply reply = list_of(entry(id, {{"big", std::string(100'000, 'x')}}));
    reply.then = HttpReply::Then::Drip;
    return reply;
  });
}

TEST_F(StallByMetadata, IsNotSeenBesideAnAnswerWithoutEnd) {
  expect_no_stall_by([](const std::string&) {
    return HttpReply{"HTTP/1.1 200 So\r\n\r\n", HttpReply::Then::Repeat};
  });
}

TEST_F(StallByMetadata, IsNotSeenBesideAHeaderWithoutEnd) {
  expect_no_stall_by([](const std::string&) {
    return HttpReply{"HTTP/1.1 200 So\r\nX: ", HttpReply::Then::Repeat};
  });
}

TEST_F(StallByMetadata, IsNotSeenBesideASilentEngine) {
  expect_no_stall_by([](const std::string&) { return HttpReply{"", HttpReply::Then::Stay}; });
}

}  // namespace
}  // namespace portfwd
