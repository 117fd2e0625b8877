// One forward whose target is a listener of the test: real host ports, no container. The test turns
// the loop.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <memory>

#include "relay/netns_dialer.h"
#include "relay/stream_port.h"
#include "support/addresses.h"
#include "support/deadline.h"
#include "support/socket_tap.h"

namespace portfwd::testing_support {

inline constexpr Port kHostPort = 8080;
inline constexpr std::array kBoth{Endpoint{IpAddress::loopback(Family::V4), kHostPort},
                                  Endpoint{IpAddress::loopback(Family::V6), kHostPort}};

/// Connects and closes. @return 0, or why the connection failed
inline int connect_outcome(const Endpoint& to) {
  const UniqueFd fd = new_socket(to.address.family());
  const int error = try_connect(fd, to);
  if (error != EINPROGRESS) return error;
  EXPECT_TRUE(wait_for(fd.get(), POLLOUT));
  return take_socket_error(fd.get());
}

/// A forward whose target is a listener of the test.
struct ForwardRig : ForwardPortObserver {
  explicit ForwardRig(ForwardPortSettings settings = {.name = "test"})
      : port(std::make_unique<StreamPort>(RelayServices{context, gate, identity}, settings,
                                          static_cast<ForwardPortObserver&>(*this))) {}

  virtual ~ForwardRig() = default;

  void on_target_refused(ForwardPort&, const Error& error) override {
    ++target_refusals;
    last_refusal = error;
    if (on_refusal) on_refusal();
  }
  void on_drained(ForwardPort& which) override {
    ++drained;
    EXPECT_EQ(&which, port.get());
    loop.retire(std::move(port));
  }

  [[nodiscard]] bool bind() { return port->bind(addresses(kBoth)).has_value(); }
  [[nodiscard]] bool serve() {
    const ListenAddress there{*local_endpoint(target.get()), false};
    return port->serve(dialer, std::span(&there, 1)).has_value();
  }
  [[nodiscard]] bool hold() { return port->hold().has_value(); }
  /// Binds and serves.
  void start() { ASSERT_TRUE(bind() && serve()); }

  bool until(const std::function<bool()>& done) {
    const TimePoint deadline = loop.now() + kDeadline;
    while (!done() && loop.now() < deadline) EXPECT_TRUE(loop.turn(std::chrono::milliseconds(10)));
    return done();
  }
  Received receive(const UniqueFd& fd, std::size_t at_least) {
    Received got;
    EXPECT_TRUE(until([&] {
      read_available(fd, got);
      return got.ending != Ending::None || got.text.size() >= at_least;
    })) << "got "
        << got.text.size() << " bytes";
    return got;
  }
  Ending ending_of(const UniqueFd& fd) { return receive(fd, SIZE_MAX).ending; }
  UniqueFd accept_inside() {
    EXPECT_TRUE(until([&] { return wait_for(target.get(), POLLIN, 0); }));
    return accept_from(target);
  }
  /// Connects a client. @return it, and the target's end of its connection
  StreamPair connect_through(const Endpoint& to = kBoth[0]) {
    UniqueFd client = connect_to_port(to);
    UniqueFd inside = accept_inside();
    EXPECT_TRUE(until([&] { return port->waiting() == 0; }));
    return {std::move(client), std::move(inside)};
  }

  SystemClock clock;
  EventLoop loop{clock};
  RelayContext context{loop};
  AcceptGate gate{loop, [this](const Error& error) {
                    ++shortages;
                    EXPECT_EQ(error.code, EMFILE);
                  }};
  ClientIdentity identity{*SockDiag::open(), ::geteuid(), Subuids("/nonexistent", "", 0)};
  UniqueFd target = listen_on_loopback(Family::V4);
  SocketTap sockets;
  NetnsDialer dialer{context, sockets};
  std::unique_ptr<StreamPort> port;
  int target_refusals = 0;
  Error last_refusal{};
  int drained = 0;
  int shortages = 0;
  std::function<void()> on_refusal;
};

}  // namespace portfwd::testing_support
