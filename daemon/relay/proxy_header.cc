#include "relay/proxy_header.h"

#include <fmt/format.h>

#include <string_view>

namespace portfwd {

namespace {

using namespace std::string_view_literals;

constexpr std::string_view kSignature = "\r\n\r\n\0\r\nQUIT\n"sv;
constexpr char kVersion2Proxy = 0x21;  ///< version 2, on behalf of another
constexpr char kTcpOverV4 = 0x11;
constexpr char kTcpOverV6 = 0x21;

std::string text_header(const Endpoint& client, const Endpoint& host) {
  return fmt::format("PROXY TCP{} {} {} {} {}\r\n", client.address.family() == Family::V4 ? 4 : 6,
                     client.address.text(), host.address.text(), client.port, host.port);
}

std::string network_order(std::size_t number) {
  return {static_cast<char>(number >> 8), static_cast<char>(number & 0xff)};
}

std::string network_order(const IpAddress& address) {
  return {address.data(), address.data() + address.size()};
}

std::string binary_header(const Endpoint& client, const Endpoint& host) {
  const std::string addresses = network_order(client.address) + network_order(host.address) +
                                network_order(client.port) + network_order(host.port);
  std::string header(kSignature);
  header += kVersion2Proxy;
  header += client.address.family() == Family::V4 ? kTcpOverV4 : kTcpOverV6;
  return header + network_order(addresses.size()) + addresses;
}

}  // namespace

std::string proxy_header(ProxyProtocol version, const Endpoint& client, const Endpoint& host) {
  return version == ProxyProtocol::V1 ? text_header(client, host) : binary_header(client, host);
}

}  // namespace portfwd
