#include "forward/published.h"

#include <fmt/format.h>

namespace portfwd {

std::string published_at(const Container& container, const Listener& listener) {
  if (container.engine == "rootlesskit") return fmt::format("port {}", listener.local.port);
  if (listener.local.address.is_loopback()) return {};
  for (const PublishedPorts& ports : container.published) {
    const int offset = listener.local.port - ports.container_port;
    if (ports.protocol != listener.protocol || offset < 0) continue;
    if (static_cast<unsigned>(offset) >= ports.count) continue;
    const int port = ports.host_port + offset;
    if (ports.host_address.empty()) return fmt::format("port {} of every address", port);
    const bool v6 = ports.host_address.find(':') != std::string::npos;
    return v6 ? fmt::format("[{}]:{}", ports.host_address, port)
              : fmt::format("{}:{}", ports.host_address, port);
  }
  return {};
}

}  // namespace portfwd
