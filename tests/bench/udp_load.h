// Loads for a relay of datagrams: an echo server, and clients that keep a number of datagrams under
// way and count what comes back. What is lost is sent again. Owned by udp_bench; it knows no relay.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace portfwd::bench {

struct UdpLoad {
  std::string_view name;
  std::uint32_t clients;    ///< sockets at a time
  std::uint32_t under_way;  ///< datagrams of each
  std::uint32_t size;       ///< bytes
  bool renewed = false;     ///< a socket for each datagram, as DNS has it
};

inline constexpr std::array kUdpLoads{
    UdpLoad{"1 client x 64 under way, 64 B", 1, 64, 64},
    UdpLoad{"1 client x 64 under way, 1200 B", 1, 64, 1200},
    UdpLoad{"1 client x 1 under way, 64 B", 1, 1, 64},
    UdpLoad{"64 clients x 1 under way, 64 B", 64, 1, 64},
    UdpLoad{"one question a socket, 64 B", 16, 1, 64, true},
};

/// Sends back what comes to 127.0.0.1:port of the caller's network namespace, for ever.
[[noreturn]] void serve_datagrams(std::uint16_t port);

/// Through 127.0.0.1:port of the caller's network namespace. @return echoes a second
double run_udp_load(const UdpLoad& load, std::uint16_t port, std::chrono::milliseconds duration);

}  // namespace portfwd::bench
