// Dials listeners in another network namespace, with sockets that were made there: a socket belongs
// for life to the namespace in which it was made, so the daemon only connects. Owned per container.
// It does not know how the sockets were made, nor whether they carry streams or datagrams; a
// datagram socket is connected at once, which only tells the kernel where to send to.
//
// On loopback the handshake of TCP is over before connect(2) returns, whatever connect(2) says: the
// state of the socket is looked at once, and only a handshake that takes longer costs an attempt, a
// timer and a wait. Test: StreamFacts.AHandshakeOnLoopbackIsOverWhenConnectReturns
#pragma once

#include <list>

#include "broker/client/socket_pool.h"
#include "relay/dialer.h"
#include "relay/relay_context.h"

namespace portfwd {

// Sockets to dial the host's own loopback with, made when they are needed: what the pool is for a
// container. Owned by whoever dials there.
class HostSockets final : public SocketSource {
 public:
  /// @param context borrowed
  explicit HostSockets(RelayContext& context)
      : context_(context), refuse_(context.loop(), [this] { refuse_waiting(); }) {}

  [[nodiscard]] UniqueFd take(Family family) override;
  /// There is none for want of a descriptor, and there won't be one soon: EMFILE, in the next turn.
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

  /// A candidate that refuses, or that has no route, makes room for the next one at once. Waiting
  /// for a socket counts against the deadline too. `candidates` must not be empty.
  [[nodiscard]] DialStart dial(std::span<const Address> candidates, TimePoint deadline,
                               DialHandler& handler) override;

 private:
  EventLoop& loop_;
  SocketSource& sockets_;
};

}  // namespace portfwd
