// Contents of images, workspaces and answers of engines: labels, dev container metadata and ports
// in any number.
#include "build_paths.h"
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
  /// Dev container metadata with `count` different regular expressions.
  static std::string expressions(int count, const std::function<std::string(int)>& expression) {
    Json attributes = Json::object();
    for (int i = 0; i < count; ++i) attributes[expression(i)] = {{"label", "x"}};
    return Json{{"portsAttributes", attributes}}.dump();
  }

  /// One entry of podman's list, for container `id`.
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
  /// Asserts no stall by containers for which the engine gives this answer.
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

  /// A new container, after the engine was asked about it.
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

TEST_F(StallByMetadata, IsNotSeenBesideADeepLabel) {
  expect_no_stall_by_metadata("{\"forwardPorts\":[" + nested_lists(200'000) + "]}");
}

TEST_F(StallByMetadata, IsNotSeenBesideADeepFileOfAWorkspace) {
  const std::string folder = file("workspace");
  std::filesystem::create_directories(folder + "/.devcontainer");
  std::ofstream(folder + "/.devcontainer/devcontainer.json")
      << "{\"forwardPorts\":[" << nested_lists(300'000) << "]}";
  expect_no_stall_by([folder](const std::string& id) {
    return list_of(entry(id, {{"devcontainer.local_folder", folder}}));
  });
}

TEST_F(StallByMetadata, IsNotSeenBesideHundredsOfExpressions) {
  expect_no_stall_by_metadata(
      expressions(700, [](int i) { return "(\\pL{900}|x" + std::to_string(i) + ")"; }));
}

TEST_F(StallByMetadata, IsNotSeenBesideLargeExpressions) {
  expect_no_stall_by_metadata(
      expressions(256, [](int i) { return "((\\pL{30}\\pN{30}){12}|" + std::to_string(i) + ")"; }));
}

TEST_F(StallByMetadata, IsNotSeenBesideTensOfThousandsOfWantedPorts) {
  std::string ports;
  for (int port = 1; port < 65536; ++port) ports += std::to_string(port) + ",";
  ports.pop_back();
  expect_no_stall_by_metadata("{\"forwardPorts\":[" + ports + "],\"appPort\":[" + ports + "]}");
}

TEST_F(StallByMetadata, IsNotSeenBesideExposedPortsByTheThousands) {
  std::string ports;
  for (int port = 1; port <= 110'000; ++port) {
    ports += R"({"PrivatePort":)" + std::to_string(port % 60'000 + 1) + R"(,"Type":"tcp"},)";
  }
  ports.pop_back();
  expect_no_stall_by([ports](const std::string& id) {
    return list_of(entry(id, Json::object(), "[" + ports + "]"));
  });
}

TEST_F(StallByMetadata, IsNotSeenBesidePublishedPortsByTheThousands) {
  std::string ports;
  for (int port = 1; port <= 60'000; ++port) {
    ports += R"({"PrivatePort":)" + std::to_string(port) + R"(,"PublicPort":)" +
             std::to_string(port) + R"(,"Type":"tcp"},)";
  }
  ports.pop_back();
  expect_no_stall_by([ports](const std::string& id) {
    return list_of(entry(id, Json::object(), "[" + ports + "]"));
  });
}

TEST_F(StallByMetadata, IsNotSeenBesideAMillionEmptyEntries) {
  const std::string empty = repeated("{},", 1'390'000);
  expect_no_stall_by(
      [empty](const std::string& id) { return list_of(empty + entry(id, Json::object())); });
}

/// All of these exist when the daemon starts, as after a reboot.
TEST_F(StallByMetadata, IsReadySoonBesideWhatImagesHold) {
  constexpr Duration kMostReady = 1500ms;  // it may wait for an engine for a second
  std::string ports;                       // an answer may have 4 MiB
  for (int port = 1; port <= 80'000; ++port) {
    ports += R"({"PrivatePort":)" + std::to_string(port % 60'000 + 1) + R"(,"Type":"tcp"},)";
  }
  ports.pop_back();
  const std::vector<std::string> what{
      "[" + ports + "]", "{\"forwardPorts\":[" + nested_lists(200'000) + "]}",
      expressions(700, [](int i) { return "(\\pL{900}|x" + std::to_string(i) + ")"; })};
  std::vector<std::unique_ptr<KeptProcess>> containers;
  std::string entries;
  for (std::size_t i = 0; i < what.size(); ++i) {
    const std::string id = std::to_string(1000 + i) + std::string(60, 'c');
    entries += (i == 0 ? entry(id, Json::object(), what[i]) : metadata_entry(id, what[i])) + ",";
    Sandbox sandbox;
    containers.push_back(std::make_unique<KeptProcess>(sandbox, id, "image"));
  }
  entries.pop_back();
  serve([entries](const std::string&) { return list_of(entries); });
  open_calm();
  const TimePoint began = loop_.now();
  start_daemon();
  const Duration ready = loop_.now() - began;
  EXPECT_EQ(greeting({kV4, kCalm}), std::to_string(kCalm) + " here\n");
  const auto ms = [](Duration d) { return static_cast<double>(d.count()) / 1e6; };
  std::printf("  ready after %.1f ms, first answer after %.1f\n", ms(ready),
              ms(loop_.now() - began));
  EXPECT_LE(ready, kMostReady);
  EXPECT_TRUE(until([&] { return !engine_->requests().empty(); }));
  expect_no_stall_beside([&] { go_on_for(2s); });
}

TEST_F(StallByMetadata, IsNotSeenBesideADeepAnswer) {
  expect_no_stall_by([](const std::string&) { return HttpReply::ok(nested_lists(2'000'000)); });
}

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

TEST_F(StallByMetadata, IsNotSeenBesideHugeLabelsWhenEventsAreAskedFor) {
  const std::string text(3'800'000, 'x');
  serve([text](const std::string& id) { return list_of(entry(id, {{"big", text}})); });
  expect_no_stall_beside([&] {
    for (int i = 0; i < 6; ++i) {
      const auto container = new_container();
      go_on_for(300ms);
    }
    for (int i = 0; i < 3; ++i) EXPECT_EQ(run({PORTFWDCTL_PATH, "--json", "events"}).status, 0);
  });
}

TEST_F(StallByMetadata, IsNotSeenBesideThousandsOfLabels) {
  Json labels = Json::object();
  for (int i = 0; i < 60'000; ++i) {
    labels["portfwd.forward." + std::to_string(i)] = std::to_string(i);
  }
  expect_no_stall_by([labels](const std::string& id) { return list_of(entry(id, labels)); });
}

}  // namespace
}  // namespace portfwd
