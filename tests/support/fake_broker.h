// A broker played by the test itself: the launcher keeps the far end of each socket pair, and the
// test reads requests from it and sends any answer. No process is involved.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "broker/client/broker_launcher.h"
#include "broker/protocol.h"

namespace portfwd::testing_support {

class FakeBroker final : public BrokerLauncher {
 public:
  Result<BrokerProcess> launch() override {
    if (refuse_with != 0) return fail("launch", refuse_with);
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      return fail("socketpair");
    }
    ++launched;
    theirs = UniqueFd(ends[1]);
    return BrokerProcess{0, UniqueFd(), UniqueFd(ends[0])};
  }
  void discard(BrokerProcess) override { ++discarded; }

  /// @return nothing when no request is waiting
  [[nodiscard]] std::optional<broker::Request> next_request() const {
    broker::Request request;
    const auto got = receive_with_fds(theirs.get(), std::as_writable_bytes(std::span(&request, 1)));
    if (got.outcome != ReceivedMessage::Outcome::Message || got.size != sizeof request) return {};
    return request;
  }

  /// Sends `size` bytes of the reply and `fds` copies of our end's descriptor.
  void send(const broker::Reply& reply, std::size_t fds, std::size_t size = sizeof(broker::Reply)) {
    const std::vector<int> copies(fds, theirs.get());
    const auto bytes = std::as_bytes(std::span(&reply, 1)).first(size);
    const auto sent = send_with_fds(theirs.get(), bytes, copies);
    EXPECT_TRUE(sent) << sent.error().text();
  }

  /// Answers all pending requests as a correct broker would. @return their number, without joins
  int answer_all() {
    int answered = 0;
    while (const auto request = next_request()) {
      broker::Reply reply;
      reply.id = request->id;
      if (request->op == broker::Op::Sockets) reply.count = request->count;
      if (request->op > broker::Op::Sockets) reply.count = 1;
      send(reply, reply.count);
      if (request->op != broker::Op::Join) ++answered;
    }
    return answered;
  }

  int refuse_with = 0;  ///< an errno that launch() fails with
  int launched = 0;
  int discarded = 0;
  UniqueFd theirs;
};

}  // namespace portfwd::testing_support
