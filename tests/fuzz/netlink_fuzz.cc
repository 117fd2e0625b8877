// An arbitrary datagram from a netlink socket: it is walked and parsed, and never read past its
// end. The bytes of each message are within the datagram, and the walk makes progress.
#include <cstdint>
#include <cstdlib>

#include "kernel/netlink.h"
#include "kernel/sock_diag.h"

namespace {

bool inside(portfwd::netlink::Bytes part, portfwd::netlink::Bytes whole) {
  return part.empty() ||
         (part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto datagram = std::as_bytes(std::span(data, size));
  portfwd::netlink::Messages messages(datagram);
  std::size_t count = 0;
  while (const auto message = messages.next()) {
    if (!inside(message->payload, datagram) || ++count > size) std::abort();
    if (portfwd::netlink::status_of(*message) < 0) std::abort();
    (void)portfwd::parse_diag_socket(message->payload);
    if (const auto listener = portfwd::parse_diag_unix_socket(message->payload)) {
      if (listener->name.endpoint() != nullptr || listener->name.text().empty()) std::abort();
      if (listener->name.text().size() > portfwd::kLongestUnixName + 1) std::abort();
    }
    portfwd::netlink::Attributes attributes(message->payload);
    while (const auto attribute = attributes.next()) {
      if (!inside(attribute->payload, message->payload)) std::abort();
    }
  }
  return 0;
}
