// Dials listeners in another network namespace, with sockets that were made there: a socket belongs
// for life to the namespace in which it was made, so the daemon only connects. Owned per container;
// it knows nothing of how the sockets came about, nor whether they are of streams or of datagrams:
// of those connecting is done at once and only means that the kernel knows where to send to.
#pragma once

#include "broker/client/socket_source.h"
#include "relay/dialer.h"
#include "relay/relay_context.h"

namespace portfwd {

class NetnsDialer final : public Dialer {
 public:
  /// @param context, sockets borrowed; they outlive every Dial.
  NetnsDialer(RelayContext& context, SocketSource& sockets)
      : context_(context), sockets_(sockets) {}

  /// A candidate that refuses, or that has no route, makes room for the next one at once. Waiting
  /// for a socket counts against the deadline too. `candidates` must not be empty.
  [[nodiscard]] std::unique_ptr<Dial> dial(std::span<const Address> candidates, TimePoint deadline,
                                           DialHandler& handler) override;

 private:
  RelayContext& context_;
  SocketSource& sockets_;
};

}  // namespace portfwd
