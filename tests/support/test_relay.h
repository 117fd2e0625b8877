// What a forward needs, in this process's own network namespace: the loop, the relay's shared
// parts, and sockets made directly instead of by a broker.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay/accept_gate.h"
#include "relay/forward_port.h"
#include "relay/relay_context.h"

namespace portfwd::testing_support {

class LocalSockets final : public SocketSource {
 public:
  UniqueFd acquire(Family family) override {
    return UniqueFd(
        ::socket(address_family(family), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  }
  void await(Family, SocketWaiter&) override { ADD_FAILURE() << "take() always has one"; }
  void withdraw(SocketWaiter&) noexcept override {}
};

struct TestRelay {
  static const Clock& system_clock() {
    static const SystemClock clock;
    return clock;
  }
  /// @param clock of the loop; must outlive it
  explicit TestRelay(const Clock& clock = system_clock()) : loop(clock) {}

  EventLoop loop;
  RelayContext context{loop};
  AcceptGate gate{loop, [](const Error& error) { ADD_FAILURE() << error.text(); }};
  ClientIdentity identity{open_diag(), ::geteuid(), Subuids("/nonexistent", "", ::geteuid())};
  RelayServices services{context, gate, identity};

 private:
  static SockDiag open_diag() {
    auto diag = SockDiag::open();
    EXPECT_TRUE(diag);
    return std::move(*diag);
  }
};

}  // namespace portfwd::testing_support
