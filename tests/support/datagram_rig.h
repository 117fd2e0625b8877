// A UDP forward on real host ports whose target is a socket of the test, with everything it needs.
// Owned by a test, which turns the loop.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

#include "relay/datagram_port.h"
#include "relay/netns_dialer.h"
#include "support/addresses.h"
#include "support/datagram_sockets.h"
#include "support/deadline.h"
#include "support/manual_clock.h"
#include "support/socket_tap.h"

namespace portfwd::testing_support {

inline constexpr Port kUdpPort = 8053;
inline constexpr std::array kUdpEndpoints{Endpoint{IpAddress::loopback(Family::V4), kUdpPort},
                                          Endpoint{IpAddress::loopback(Family::V6), kUdpPort}};

/// A forward whose target is a socket of the test.
struct DatagramRig : ForwardPortObserver {
  explicit DatagramRig(ForwardPortSettings settings = {.name = "test"})
      : port(std::make_unique<DatagramPort>(RelayServices{context, gate, identity}, settings,
                                            static_cast<ForwardPortObserver&>(*this))) {}

  virtual ~DatagramRig() = default;

  void on_target_refused(ForwardPort&, const Error& error) override {
    refusals.push_back(error.code);
    if (on_refusal) on_refusal();
  }
  void on_drained(ForwardPort&) override {
    drained = true;
    loop.retire(std::move(port));
  }

  void serve() {
    const ListenAddress there{*local_endpoint(target.get()), false};
    ASSERT_TRUE(port->serve(dialer, std::span(&there, 1)));
  }
  void start() {
    ASSERT_TRUE(port->bind(addresses(kUdpEndpoints)));
    serve();
  }
  bool until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      EXPECT_TRUE(loop.turn(std::chrono::milliseconds(10)));
    }
    return done();
  }
  OneDatagram take(const UniqueFd& fd) {
    OneDatagram got{"", {}, EAGAIN};
    EXPECT_TRUE(until([&] {
      if (got.error == EAGAIN) got = take_one(fd);
      return got.error != EAGAIN;
    }));
    return got;
  }
  /// Sends until a refusal is reported, since nothing listens.
  bool is_refused(const UniqueFd& client) {
    return until([&] {
      const int error = send_one(client, "anybody?");
      return error == ECONNREFUSED || take_one(client).error == ECONNREFUSED;
    });
  }
  /// Sends a client's datagram. @return the datagram that the target receives
  OneDatagram ask(const UniqueFd& client, std::string_view text) {
    EXPECT_EQ(send_one(client, text), 0);
    return take(target);
  }
  [[nodiscard]] const Counters& counters() const { return port->counters(); }

  ManualClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  AcceptGate gate{loop, [](const Error& error) { ADD_FAILURE() << error.text(); }};
  ClientIdentity identity{*SockDiag::open(), ::geteuid(), Subuids("/nonexistent", "", 0)};
  UniqueFd target = bind_datagrams({IpAddress::loopback(Family::V4), 0});
  SocketTap sockets{SOCK_DGRAM};
  NetnsDialer dialer{context, sockets};
  std::unique_ptr<DatagramPort> port;
  std::vector<int> refusals;
  std::function<void()> on_refusal;
  bool drained = false;
};

}  // namespace portfwd::testing_support
