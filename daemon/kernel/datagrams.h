// UDP datagrams in batches, as values: recvmmsg(2) and sendmmsg(2), with several datagrams of one
// size in one message in both directions (UDP_GRO, UDP_SEGMENT). The RelayContext owns the receive
// buffers, one set for all sockets. Flows are not known here.
//
// A message passes through the kernel's stack once, however many datagrams it contains. Therefore
// datagrams that were received one by one are sent together where their sizes allow. Receivers see
// no difference: the kernel delivers the datagrams one by one unless the receiver asks for them
// together.
// Source: udp(7), net/ipv4/udp.c (udp_send_skb, udp_queue_rcv_skb), net/ipv4/udp_offload.c.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/error.h"
#include "net/address.h"

namespace portfwd {

/// One message: one datagram, which may be empty, or several of one size after each other.
struct Datagrams {
  std::span<const std::byte> bytes;
  std::size_t each = 0;  ///< bytes of each datagram; the last may be shorter

  [[nodiscard]] std::size_t count() const {
    assert(bytes.empty() || each > 0);
    return bytes.empty() ? 1 : (bytes.size() + each - 1) / each;
  }
};

/// The source of a message, and its local destination if enable_arrival_address() was called.
struct Arrived {
  Endpoint from;
  std::optional<IpAddress> at;
  friend bool operator==(const Arrived&, const Arrived&) = default;
};

/// Messages and their addresses; both have the same length.
struct ReceivedDatagrams {
  std::span<const Datagrams> messages;
  std::span<const Arrived> ends;
  bool all = false;  ///< the queue is empty
};

class DatagramReceiver {
 public:
  static constexpr std::size_t kMessages = 32;
  static constexpr std::size_t kLargest = 65'536;  ///< bytes of a message

  DatagramReceiver();

  /// Receives at most kMessages; never blocks. The result is valid until the next call. @return no
  /// message when nothing is queued. Errors such as ECONNREFUSED were reported by ICMP: on a
  /// connected socket only, once, and before datagrams that arrived earlier.
  [[nodiscard]] Result<ReceivedDatagrams> receive(int socket);

 private:
  static constexpr std::size_t kControl = 128;  ///< bytes; room for two small control messages
  using Memory = std::array<std::byte, kMessages * kLargest>;
  void reset_header(std::size_t slot);
  void store_message(std::size_t slot);

  std::unique_ptr<Memory> memory_;  ///< pages that were never written take no memory
  std::array<mmsghdr, kMessages> headers_{};
  std::array<iovec, kMessages> parts_{};
  std::array<sockaddr_storage, kMessages> senders_{};
  alignas(cmsghdr) std::array<std::array<std::byte, kControl>, kMessages> controls_{};
  std::array<Datagrams, kMessages> received_{};
  std::array<Arrived, kMessages> ends_{};
};

/// Addresses for an unconnected socket: the destination, and the local address (nothing: as
/// routed).
struct DatagramRoute {
  Endpoint to;
  std::optional<IpAddress> from;
};

struct DatagramsSent {
  std::uint64_t bytes = 0;
  int error = 0;  ///< positive errno of the last failure; 0 when everything was sent
};

/// Sends the messages in order and never blocks. Drops what the socket does not accept, as a full
/// queue in the network would. @param route null on a connected socket
DatagramsSent send_datagrams(int socket, std::span<const Datagrams> messages,
                             const DatagramRoute* route = nullptr);

/// Makes the socket receive datagrams of one size that arrive together as one message.
void receive_together(int socket);
/// Makes received messages carry the local address that they were sent to. Source: ip(7), ipv6(7).
void enable_arrival_address(int socket, Family family);

}  // namespace portfwd
