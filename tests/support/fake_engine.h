// The part of an engine that helper containers use, on a Unix socket: it starts the helper's
// program in the network namespace of a process of the test. Runs on the test's own event loop.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/http_server.h"

namespace portfwd::testing_support {

class FakeEngine {
 public:
  /// @param pid a process of the container that helpers join
  FakeEngine(EventLoop& loop, const std::string& path, pid_t pid)
      : pid_(pid),
        server_(loop, path, [this](const std::string& request) { return answer(request); }) {}
  ~FakeEngine() {
    for (const pid_t helper : helpers_) {
      ::kill(helper, SIGKILL);
      ::waitpid(helper, nullptr, 0);
    }
  }
  FakeEngine(const FakeEngine&) = delete;
  FakeEngine& operator=(const FakeEngine&) = delete;

  /// Number of requests so far whose first line begins like this.
  [[nodiscard]] std::size_t asked(const std::string& beginning) const {
    return static_cast<std::size_t>(std::ranges::count_if(
        server_.requests(), [&](const std::string& r) { return r.starts_with(beginning); }));
  }
  /// Number of running helpers; reaps those that have ended.
  std::size_t helpers() {
    std::erase_if(helpers_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) == pid; });
    return helpers_.size();
  }

  std::string refuse_with;       ///< the error message for a creation
  std::string leftovers = "[]";  ///< the containers that it lists
  nlohmann::json created;        ///< the body of the last creation

 private:
  HttpReply answer(const std::string& request) {
    if (request.starts_with("GET /v1.40/containers/json?")) return HttpReply::ok(leftovers);
    if (request.starts_with("GET ")) return HttpReply::ok(R"({"Image":"sha256:1234"})");
    if (request.starts_with("DELETE ")) return HttpReply::with(204, "");
    if (request.find("/start ") != request.npos) return start();
    if (!refuse_with.empty()) {
      return HttpReply::with(500, nlohmann::json{{"message", refuse_with}}.dump());
    }
    created = nlohmann::json::parse(request.substr(request.find("\r\n\r\n") + 4), nullptr, false);
    return HttpReply::with(201, R"({"Id":"0123456789abcdef"})");
  }

  HttpReply start() {
    const auto& mounts = created["HostConfig"]["Mounts"];
    std::string net = "--net=/proc/" + std::to_string(pid_) + "/ns/net";
    std::string program = mounts[0]["Source"];
    std::string socket = mounts[1]["Source"];
    std::vector<char*> argv{const_cast<char*>("nsenter"), net.data(), program.data(), socket.data(),
                            nullptr};  // not written to
    pid_t helper = 0;
    EXPECT_EQ(::posix_spawnp(&helper, "nsenter", nullptr, nullptr, argv.data(), environ), 0);
    helpers_.push_back(helper);
    return HttpReply::with(204, "");
  }

  pid_t pid_;
  std::vector<pid_t> helpers_;
  HttpServer server_;
};

}  // namespace portfwd::testing_support
