// Sockets to dial the host's own loopback with, made when they are needed: what the pool is for a
// container. Owned by whoever dials there.
#pragma once

#include <list>

#include "broker/client/socket_source.h"
#include "relay/relay_context.h"

namespace portfwd {

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

}  // namespace portfwd
