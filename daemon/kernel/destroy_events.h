// Notifications that a socket was closed, 0.1 ms after the last close: the multicast groups
// SKNLGRP_INET{,6}_{TCP,UDP}_DESTROY of a NETLINK_SOCK_DIAG socket, available without privileges.
// Owned by the CloseWatch of a port watch. The kernel reports nothing for a socket after
// shutdown(), nor while a child still holds the fd, so these events supplement polling and do not
// replace it. No list of listeners is kept here.
//
// While any process has joined, the kernel builds a message for every socket closed in that
// namespace, which takes 3 to 10 µs: leave where thousands of sockets are closed. No counter tells
// how many that are, least of all for UDP. So the filter passes one message in kSampled whatever
// its port, truncated, by which it is recognized.
// Source: sock_diag(7), net/core/sock_diag.c; BPF's random numbers: SKF_AD_RANDOM in
// linux/filter.h.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "kernel/netlink.h"
#include "net/address.h"

namespace portfwd {

/// A classic BPF program over one message. It passes sockets without a peer whose own port is
/// listed, and one message in kSampled of any kind, truncated to kSampleBytes. Each port is a jump
/// to the accepting instruction at the end, and a jump spans at most 255 instructions: with more
/// than kMaxFilteredPorts ports the program passes every socket without a peer.
/// @param ports must contain every port of interest; an unnecessary port only costs a wake-up
inline constexpr std::size_t kMaxFilteredPorts = 200;
inline constexpr std::uint32_t kSampled = 256;
[[nodiscard]] std::vector<sock_filter> destroy_filter(std::span<const Port> ports);

class DestroyEvents {
 public:
  /// @param socket a NETLINK_SOCK_DIAG socket of its own: the filter would drop a dump's answers
  explicit DestroyEvents(UniqueFd socket);

  [[nodiscard]] int fd() const { return socket_.get(); }

  /// From now on reports only closes of sockets on these ports (destroy_filter).
  Result<void> filter(std::span<const Port> ports);
  /// Whether the filter passes closes of listeners on this port.
  [[nodiscard]] bool passes(Port port) const;
  /// @param udp whether to report closes of UDP sockets too
  Result<void> join(bool udp = false);
  void leave();
  [[nodiscard]] bool joined() const { return joined_; }

  struct Batch {
    std::vector<std::uint64_t> cookies;  ///< of the closed listeners, as in a dump
    std::uint64_t closes = 0;            ///< estimated number of closes of any kind
    bool lost = false;  ///< the queue overflowed or a message was malformed: dump now
    bool more = false;  ///< the batch is full, the queue is not empty yet
  };
  /// Reads at most kBatch events; never blocks.
  [[nodiscard]] Batch drain();

 private:
  static constexpr int kBatch = 64;
  Result<void> change_groups(int option, bool udp);
  void read_event(netlink::Bytes bytes, Batch& batch) const;
  void add_closed_socket(netlink::Bytes payload, Batch& batch) const;

  UniqueFd socket_;
  std::vector<Port> ports_;  ///< of the filter, ascending
  bool joined_ = false;
};

}  // namespace portfwd
