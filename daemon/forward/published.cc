#include "forward/published.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

bool covers(const PublishedPorts& ports, Target target) {
  const int offset = target.port - ports.container_port;
  return ports.protocol == target.protocol && offset >= 0 &&
         static_cast<unsigned>(offset) < ports.count;
}

Port host_port_of(const PublishedPorts& ports, Target target) {
  return static_cast<Port>(ports.host_port + target.port - ports.container_port);
}

}  // namespace

std::string published_at(const std::vector<PublishedPorts>& published, Target target) {
  for (const PublishedPorts& ports : published) {
    if (!covers(ports, target)) continue;
    const Port port = host_port_of(ports, target);
    if (ports.host_address.empty()) return fmt::format("port {} of every address", port);
    const bool v6 = ports.host_address.find(':') != std::string::npos;
    return v6 ? fmt::format("[{}]:{}", ports.host_address, port)
              : fmt::format("{}:{}", ports.host_address, port);
  }
  return {};
}

std::optional<Port> published_on_loopback(const std::vector<PublishedPorts>& published,
                                          Target target) {
  for (const PublishedPorts& ports : published) {
    const auto address = IpAddress::parse(ports.host_address);
    const bool loopback = ports.host_address.empty() || (address && address->is_loopback());
    if (loopback && covers(ports, target)) return host_port_of(ports, target);
  }
  return std::nullopt;
}

std::string published_at(const Container& container, const Listener& listener) {
  if (container.engine == "rootlesskit") return fmt::format("port {}", listener.local.port);
  if (listener.local.address.is_loopback()) return {};
  return published_at(container.published, {listener.protocol, listener.local.port});
}

}  // namespace portfwd
