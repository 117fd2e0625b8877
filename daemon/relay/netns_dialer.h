// Dials listeners in another network namespace, with sockets that were made there: a socket belongs
// for life to the namespace in which it was made, so the daemon only connects. Owned per network
// namespace. It does not know how the sockets were made, nor whether they carry streams or
// datagrams; a datagram socket is connected at once, which sets its destination.
//
// On loopback the handshake of TCP is complete before connect(2) returns, whatever its result: the
// state of the socket is read once, and only a handshake that takes longer costs an attempt, a
// timer and a wait. Test: StreamFacts.AHandshakeOnLoopbackIsOverWhenConnectReturns
#pragma once

#include <list>

#include "broker/client/socket_pool.h"
#include "relay/dialer.h"
#include "relay/relay_context.h"

namespace portfwd {

// Sockets for dialling the host's own loopback, made on demand: the host's counterpart of a
// container's SocketPool. Owned by its user.
class HostSockets final : public SocketSource {
 public:
  /// @param context borrowed
  explicit HostSockets(RelayContext& context)
      : context_(context), refuse_(context.loop(), [this] { refuse_waiting(); }) {}

  [[nodiscard]] UniqueFd take(Family family) override;
  /// Fails with EMFILE in the next turn: take() fails for want of a descriptor alone.
  void await(Family family, SocketTaker& taker) override;
  void withdraw(SocketTaker& taker) noexcept override { waiting_.remove(&taker); }

 private:
  void refuse_waiting();

  RelayContext& context_;
  std::list<SocketTaker*> waiting_;
  Timer refuse_;
};

class NetnsDialer final : public Dialer {
 public:
  /// @param context, sockets borrowed; they outlive every Dial.
  NetnsDialer(RelayContext& context, SocketSource& sockets)
      : loop_(context.loop()), sockets_(sockets) {}

  /// After a candidate that refuses, or has no route, the next one is tried at once. Waiting for a
  /// socket counts against the deadline. `candidates` must not be empty.
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;

 private:
  EventLoop& loop_;
  SocketSource& sockets_;
};

}  // namespace portfwd
