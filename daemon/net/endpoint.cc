#include "net/endpoint.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace portfwd {

namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_mapped(const std::array<std::uint8_t, 16>& bytes) {
  return std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes.begin());
}

}  // namespace

IpAddress IpAddress::from_network(Family f, const void* network) {
  IpAddress r;
  r.family_ = f;
  std::memcpy(r.bytes_.data(), network, r.size());
  if (f == Family::V6 && is_mapped(r.bytes_)) {
    return v4(r.bytes_[12], r.bytes_[13], r.bytes_[14], r.bytes_[15]);
  }
  return r;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') {
    text = text.substr(1, text.size() - 2);
  }
  const std::string terminated(text);
  std::array<std::uint8_t, 16> network{};
  if (::inet_pton(AF_INET, terminated.c_str(), network.data()) == 1) {
    return from_network(Family::V4, network.data());
  }
  if (::inet_pton(AF_INET6, terminated.c_str(), network.data()) == 1) {
    return from_network(Family::V6, network.data());
  }
  return std::nullopt;
}

std::string IpAddress::text() const {
  std::array<char, INET6_ADDRSTRLEN> out{};
  ::inet_ntop(address_family(family_), bytes_.data(), out.data(), out.size());
  return out.data();
}

std::string Endpoint::text() const {
  const std::string host = address.text();
  const bool v6 = address.family() == Family::V6;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

SockAddr to_sockaddr(const Endpoint& endpoint) {
  SockAddr out;
  if (endpoint.address.family() == Family::V4) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.address.data(), 4);
    std::memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(endpoint.port);
    std::memcpy(&in.sin6_addr, endpoint.address.data(), 16);
    std::memcpy(&out.storage, &in, sizeof in);
    out.length = sizeof in;
  }
  return out;
}

std::optional<Endpoint> from_sockaddr(const SockAddr& address) {
  if (address.storage.ss_family == AF_INET && address.length >= sizeof(sockaddr_in)) {
    sockaddr_in in{};
    std::memcpy(&in, &address.storage, sizeof in);
    return Endpoint{IpAddress::from_network(Family::V4, &in.sin_addr), ntohs(in.sin_port)};
  }
  if (address.storage.ss_family == AF_INET6 && address.length >= sizeof(sockaddr_in6)) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address.storage, sizeof in);
    return Endpoint{IpAddress::from_network(Family::V6, &in.sin6_addr), ntohs(in.sin6_port)};
  }
  return std::nullopt;
}

std::optional<Port> parse_port(std::string_view text) {
  Port port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

}  // namespace portfwd
