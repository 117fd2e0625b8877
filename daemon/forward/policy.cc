#include "forward/policy.h"

#include <fmt/format.h>

#include <algorithm>

namespace portfwd {

namespace {

const PortRange* range_with(const std::vector<PortRange>& ranges, Port port) {
  const auto found =
      std::ranges::find_if(ranges, [port](const PortRange& r) { return r.contains(port); });
  return found == ranges.end() ? nullptr : &*found;
}

bool ignored(const Settings& settings, const Listener& listener) {
  return std::ranges::find(settings.ports.ignore_addresses, listener.local.address) !=
         settings.ports.ignore_addresses.end();
}

}  // namespace

Decision decide(const Settings& settings, std::span<const Listener> listeners) {
  const Listener& first = listeners.front();
  const Port port = first.local.port;
  if (first.protocol == Protocol::Udp && !settings.detect.udp) {
    return {false, "UDP is not detected: [detect] udp = false"};
  }
  if (std::ranges::all_of(listeners, [&](const Listener& l) { return ignored(settings, l); })) {
    return {false, fmt::format("it listens on {}, which [ports] ignore_addresses names",
                               first.local.address.text())};
  }
  if (range_with(settings.ports.exclude, port) != nullptr) {
    return {false, fmt::format("[ports] exclude names port {}", port)};
  }
  if (range_with(settings.ports.include, port) == nullptr) {
    return {false, fmt::format("[ports] include does not name port {}", port)};
  }
  if (settings.ports.on_auto_forward == "ignore") {
    return {false, "[ports] on_auto_forward = \"ignore\""};
  }
  return {true, "[ports] include names it and nothing excludes it", settings.ports.on_auto_forward};
}

std::vector<Listener> dialable(const Settings& settings, std::span<const Listener> listeners) {
  std::vector<Listener> out;
  std::ranges::copy_if(listeners, std::back_inserter(out),
                       [&](const Listener& l) { return !ignored(settings, l); });
  return out;
}

}  // namespace portfwd
