// A loop with the real broker program, for tests that request sockets and wait for them.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>

#include "base/log.h"
#include "broker/client/broker_client.h"
#include "broker/client/broker_launcher.h"
#include "build_paths.h"
#include "support/deadline.h"
#include "support/test_netns.h"

namespace portfwd::testing_support {

inline UniqueFd open_ns(pid_t pid, const char* type) {
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/" + type;
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

struct BrokerTest : testing::Test {
  using Sockets = BrokerClient::Sockets;

  BrokerTest() { log::set_level(log::Level::Error); }
  ~BrokerTest() override {
    release();
    wait_until([this] { return launcher->dying() == 0; });
    log::set_level(log::Level::Info);
  }

  /// A call in progress, with or without a namespace or root.
  class Pending {
   public:
    Pending(BrokerTest& test, const UniqueFd& fd, const broker::Request& request) : test_(test) {
      if (!test.client) test.client = test.enter(fd);
      if (!test.client) return;
      call_ = test.client->call(request, fd.get(),
                                [this](Result<Sockets> sockets) { answer_ = std::move(sockets); });
    }
    Pending(const Pending&) = delete;
    Pending& operator=(const Pending&) = delete;
    [[nodiscard]] Result<Sockets> wait() {
      test_.wait_until([this] { return answer_.has_value(); });
      return answer_ ? std::move(*answer_) : fail("no answer", ETIME);
    }

   private:
    BrokerTest& test_;
    std::optional<Result<Sockets>> answer_;
    BrokerCall call_;
  };

  std::shared_ptr<BrokerClient> enter(const UniqueFd& netns) {
    auto entered = brokers.enter(netns.get());
    EXPECT_TRUE(entered.has_value()) << entered.error().text();
    return entered.value_or(nullptr);
  }
  /// Sends a request to the broker of the first namespace that was used. @return nothing after a
  /// failure
  Sockets ask(const UniqueFd& fd, const broker::Request& request) {
    auto answer = Pending(*this, fd, request).wait();
    EXPECT_TRUE(answer.has_value()) << answer.error().text();
    return answer ? std::move(*answer) : Sockets{};
  }
  Error error_of(const UniqueFd& fd, const broker::Request& request) {
    const auto answer = Pending(*this, fd, request).wait();
    EXPECT_FALSE(answer.has_value());
    return answer ? Error{} : answer.error();
  }
  void release() { client.reset(); }

  template <class Condition>
  void wait_until(Condition condition) {
    const TimePoint limit = clock.now() + kDeadline;
    while (!condition() && clock.now() < limit) ASSERT_TRUE(loop.turn(std::chrono::seconds(1)));
    EXPECT_TRUE(condition()) << "not within the deadline";
  }

  SystemClock clock;
  EventLoop loop{clock};
  std::shared_ptr<SpawnLauncher> launcher =
      std::make_shared<SpawnLauncher>(loop, PORTFWD_BROKER_PATH);
  BrokerSet brokers{loop, launcher, NamespaceOwner::this_process()};
  std::shared_ptr<BrokerClient> client;
};

}  // namespace portfwd::testing_support
