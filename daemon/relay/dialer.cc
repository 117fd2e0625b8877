
#include "relay/dialer.h"

#include <algorithm>
#include <utility>

namespace portfwd {

namespace {

enum class Nearness : std::uint8_t { Loopback, Wildcard, OtherLoopback, Specific };

struct Candidate {
  bool other_family;
  Nearness nearness;
  Address address;
  friend auto operator<=>(const Candidate&, const Candidate&) = default;
};

Nearness nearness_of(const IpAddress& address) {
  if (address.is_any()) return Nearness::Wildcard;
  if (address == IpAddress::loopback(address.family())) return Nearness::Loopback;
  return address.is_loopback() ? Nearness::OtherLoopback : Nearness::Specific;
}

}  // namespace

std::vector<Address> dial_order(Family client, std::span<const ListenAddress> listeners) {
  std::vector<Candidate> candidates;
  const auto add = [&](Nearness nearness, const Endpoint& endpoint) {
    candidates.push_back({endpoint.address.family() != client, nearness, endpoint});
  };
  std::vector<Address> order;
  for (const ListenAddress& listener : listeners) {
    const auto* const ip = std::get_if<Endpoint>(&listener.address);
    if (ip == nullptr) {  // no address is nearer than another
      order.push_back(listener.address);
      continue;
    }
    const auto& [address, port, interface] = *ip;
    const Nearness nearness = nearness_of(address);
    if (nearness != Nearness::Wildcard) {
      add(nearness, *ip);
      continue;
    }
    const auto dialled = [on = interface](Family family) {
      return on == 0 ? IpAddress::loopback(family) : IpAddress::any(family);
    };
    add(nearness, {dialled(address.family()), port, interface});
    const bool takes_v4_too = address.family() == Family::V6 && !listener.v6only;
    if (takes_v4_too) add(nearness, {dialled(Family::V4), port, interface});
  }
  std::ranges::sort(candidates);
  for (const Candidate& candidate : candidates) {
    if (std::ranges::find(order, candidate.address) == order.end()) {
      order.push_back(candidate.address);
    }
  }
  return order;
}

}  // namespace portfwd
