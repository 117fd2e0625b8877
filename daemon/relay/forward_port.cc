#include "relay/forward_port.h"

#include "relay/datagram_port.h"
#include "relay/stream_port.h"

namespace portfwd {

std::unique_ptr<ForwardPort> make_forward_port(Protocol protocol, const RelayServices& services,
                                               const ForwardPortSettings& settings,
                                               ForwardPortObserver& observer) {
  if (protocol == Protocol::Udp) {
    return std::make_unique<DatagramPort>(services, settings, observer);
  }
  return std::make_unique<StreamPort>(services, settings, observer);
}

}  // namespace portfwd
