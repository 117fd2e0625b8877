// Loads for a relay of datagrams: echo servers, and clients that keep a number of datagrams under
// way and count what comes back. What is lost is sent again. Owned by udp_bench; it knows no relay.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace portfwd::bench {

struct UdpLoad {
  std::string_view part;  ///< by which it can be asked for
  std::string_view name;
  std::uint32_t clients;    ///< sockets at a time
  std::uint32_t under_way;  ///< datagrams of each
  std::uint32_t size;       ///< bytes
  bool renewed = false;     ///< a socket for each datagram, as DNS has it
  std::uint32_t train = 1;  ///< datagrams sent in one call (UDP_SEGMENT), as QUIC has it
};

inline constexpr std::array kUdpLoads{
    UdpLoad{"small", "1 client x 64 under way, 64 B", 1, 64, 64},
    UdpLoad{"large", "1 client x 64 under way, 1200 B", 1, 64, 1200},
    UdpLoad{"single", "1 client x 1 under way, 64 B", 1, 1, 64},
    UdpLoad{"many", "64 clients x 1 under way, 64 B", 64, 1, 64},
    UdpLoad{"dns", "one question a socket, 64 B", 16, 1, 64, true},
    UdpLoad{"trains", "1 client x 64 under way, 1200 B, in trains of 16", 1, 64, 1200, false, 16},
};
inline constexpr std::uint16_t kTrains = 10;  ///< above a server's port, the one for trains

/// Sends back what comes to 127.0.0.1:port of the caller's network namespace, for ever, one by one;
/// what comes to port + kTrains in trains as they came.
[[noreturn]] void serve_datagrams(std::uint16_t port);

/// Through 127.0.0.1:port of the caller's network namespace, or kTrains above. @return echoes a
/// second
double run_udp_load(const UdpLoad& load, std::uint16_t port, std::chrono::milliseconds duration);

/// One client after the other sends a datagram and waits for its echo; all of them are kept until
/// the last one has it. Ends the program when one never comes.
void ask_once_each(std::size_t clients, std::uint16_t port);

}  // namespace portfwd::bench
