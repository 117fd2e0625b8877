// A dialer for Unix sockets: paths and abstract names of one place, which a PathBroker connects.
// Owned per forward, whose options it has. It knows no forwards.
//
// A Unix connection is complete when connect(2) returns. A server whose backlog is full answers
// EAGAIN, after which the socket never becomes ready, so the attempt is repeated by a timer.
// Fact: UnixSocket.AFullBacklogIsAnsweredWithEAGAIN
#pragma once

#include <chrono>

#include "broker/client/path_broker.h"
#include "event/event_loop.h"
#include "relay/dialer.h"

namespace portfwd {

class UnixDialer final : public Dialer {
 public:
  static constexpr Duration kFirstRetry = std::chrono::milliseconds(5);
  static constexpr Duration kLongestRetry = std::chrono::milliseconds(100);

  /// @param broker borrowed; both must outlive every Dial
  UnixDialer(EventLoop& loop, PathBroker& broker, const ConnectOptions& options = {})
      : loop_(loop), broker_(broker), options_(options) {}

  /// Candidates are UnixPath or AbstractName and must not be empty. Never returns a connected
  /// socket. A socket that is connected after the attempt was destroyed is discarded by the broker.
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;

 private:
  class Attempt;
  EventLoop& loop_;
  PathBroker& broker_;
  ConnectOptions options_;
};

}  // namespace portfwd
