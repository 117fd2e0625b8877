// A dialer for listeners in another network namespace, with sockets that were created there. A
// socket belongs for its whole life to the namespace in which it was created, so the daemon only
// connects it. Owned per network namespace. It does not depend on how the sockets are created, nor
// on whether they carry streams or datagrams; a datagram socket is connected at once, which sets
// its destination.
//
// On loopback the handshake of TCP is complete when connect(2) returns, even if it returns
// EINPROGRESS. So the state of the socket is read once, and only a handshake that takes longer
// costs an attempt, a timer and a wait. Test:
// StreamFacts.AHandshakeOnLoopbackIsOverWhenConnectReturns
#pragma once

#include <list>

#include "broker/client/socket_pool.h"
#include "relay/dialer.h"
#include "relay/relay_context.h"

namespace portfwd {

// Sockets for dialling on the host, created on demand: the host's counterpart of a container's
// SocketPool. Owned by the class that uses it.
class HostSockets final : public SocketSource {
 public:
  /// @param context borrowed
  explicit HostSockets(RelayContext& context)
      : context_(context), refuse_(context.loop(), [this] { refuse_waiting(); }) {}

  [[nodiscard]] UniqueFd acquire(Family family) override;
  /// Calls `taker` with EMFILE in the next turn: take() fails only if descriptors are short.
  void await(Family family, SocketWaiter& waiter) override;
  void withdraw(SocketWaiter& waiter) noexcept override { waiting_.remove(&waiter); }

 private:
  void refuse_waiting();

  RelayContext& context_;
  std::list<SocketWaiter*> waiting_;
  Timer refuse_;
};

class NetnsDialer final : public Dialer {
 public:
  /// @param context, sockets borrowed; they must outlive every Dial.
  NetnsDialer(RelayContext& context, SocketSource& sockets)
      : loop_(context.loop()), sockets_(sockets) {}

  /// If a candidate refuses or has no route, the next one is tried at once. The time to wait for a
  /// socket counts against the deadline. `candidates` must not be empty.
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;

 private:
  EventLoop& loop_;
  SocketSource& sockets_;
};

}  // namespace portfwd
