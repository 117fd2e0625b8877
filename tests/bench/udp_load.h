// Loads for a relay of datagrams: echo servers, and clients that keep a number of datagrams in
// flight and count the echoes. Lost datagrams are sent again. Owned by udp_bench. Relays are not
// known here.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace portfwd::bench {

struct UdpLoad {
  std::string_view part;  ///< name by which it is selected
  std::string_view name;
  std::uint32_t clients;    ///< sockets at a time
  std::uint32_t under_way;  ///< datagrams in flight of each client
  std::uint32_t size;       ///< bytes
  bool renewed = false;     ///< a new socket for each datagram, as with DNS
  std::uint32_t train = 1;  ///< datagrams sent in one call (UDP_SEGMENT), as with QUIC
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

/// Echoes datagrams to 127.0.0.1:port of the caller's network namespace one by one, and trains to
/// port + kTrains as trains. Does not return.
[[noreturn]] void serve_datagrams(std::uint16_t port);

/// Through 127.0.0.1:port of the caller's network namespace, or kTrains above. @return echoes a
/// second
/// second
double run_udp_load(const UdpLoad& load, std::uint16_t port, std::chrono::milliseconds duration);

/// One client after the other sends a datagram and waits for its echo; all sockets are kept until
/// the last client has its echo. Ends the program when an echo does not arrive.
void ask_once_each(std::size_t clients, std::uint16_t port);

}  // namespace portfwd::bench
