#include "forward/published.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

bool covers(const PublishedPorts& ports, const PortTarget& target) {
  const int offset = target.port - ports.container_port;
  return ports.protocol == target.protocol && offset >= 0 &&
         static_cast<unsigned>(offset) < ports.count;
}

Port host_port_of(const PublishedPorts& ports, const PortTarget& target) {
  return static_cast<Port>(ports.host_port + target.port - ports.container_port);
}

}  // namespace

std::string published_at(const std::vector<PublishedPorts>& published, const Target& target) {
  for (const PublishedPorts& ports : published) {
    if (target.port() == nullptr || !covers(ports, *target.port())) continue;
    const Port port = host_port_of(ports, *target.port());
    if (ports.host_address.empty()) return fmt::format("port {} of every address", port);
    const bool v6 = ports.host_address.find(':') != std::string::npos;
    return v6 ? fmt::format("[{}]:{}", ports.host_address, port)
              : fmt::format("{}:{}", ports.host_address, port);
  }
  return {};
}

std::optional<Port> published_on_loopback(const std::vector<PublishedPorts>& published,
                                          const Target& target) {
  for (const PublishedPorts& ports : published) {
    const auto address = IpAddress::parse(ports.host_address);
    const bool loopback = ports.host_address.empty() || (address && address->is_loopback());
    if (!loopback || target.port() == nullptr || !covers(ports, *target.port())) continue;
    return host_port_of(ports, *target.port());
  }
  return std::nullopt;
}

std::string published_at(const Container& container, const Listener& listener) {
  if (container.engine == "rootlesskit") return fmt::format("port {}", listener.local.ip().port);
  if (listener.local.ip().address.is_loopback()) return {};
  return published_at(container.published, listener.target());
}

}  // namespace portfwd
