#include "relay/forward_port.h"

#include <fmt/format.h>

#include <cstring>

#include "relay/datagram_port.h"
#include "relay/stream_port.h"

namespace portfwd {

std::string why_undialable(const Error& error) {
  if (error.op == kLeadsBack.op) {
    return "its target leads back to this port: each connection to it makes another one, as with "
           "ssh -R N:localhost:N; clients are refused for some seconds";
  }
  return fmt::format("the target cannot be dialled: {}", ::strerror(error.code));
}

std::unique_ptr<ForwardPort> make_forward_port(Protocol protocol, const RelayServices& services,
                                               const ForwardPortSettings& settings,
                                               ForwardPortObserver& observer) {
  if (protocol == Protocol::Udp) {
    return std::make_unique<DatagramPort>(services, settings, observer);
  }
  return std::make_unique<StreamPort>(services, settings, observer);
}

}  // namespace portfwd
