// The kernel's word that a socket is gone, 0.1 ms after the last close: the multicast groups
// SKNLGRP_INET{,6}_{TCP,UDP}_DESTROY of a NETLINK_SOCK_DIAG socket, unprivileged. Owned by a port
// watch. Nothing is said after shutdown(), nor while a child still holds the fd: it supplements
// looking and does not replace it. It keeps no list of listeners.
//
// As long as anybody has joined, the kernel builds a message for every socket closed in that
// namespace, 3 to 10 µs each: leave where sockets come and go by the thousands. No counter tells
// how many that are, of UDP least of all. So one message in kSampled comes through whatever its
// port: cut short, by which it is known. Source: sock_diag(7), net/core/sock_diag.c; BPF's random
// numbers: SKF_AD_RANDOM in linux/filter.h.
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

/// A classic BPF program over one message: passes sockets without a peer whose own port is listed,
/// and one in kSampled of all, of which no more than kSampleBytes.
/// Each port is a jump to the one accepting instruction at the end, and a jump spans 255, so with
/// more than kMaxFilteredPorts ports it passes every socket without a peer.
/// Ports need to be in the list; ports that are there in excess only cost a wake-up.
inline constexpr std::size_t kMaxFilteredPorts = 200;
inline constexpr std::uint32_t kSampled = 256;
[[nodiscard]] std::vector<sock_filter> destroy_filter(std::span<const Port> ports);

class DestroyEvents {
 public:
  /// @param socket a NETLINK_SOCK_DIAG socket of its own: the filter would drop a dump's answers
  explicit DestroyEvents(UniqueFd socket);

  [[nodiscard]] int fd() const { return socket_.get(); }

  /// Only closes of sockets on these ports are reported from now on (destroy_filter).
  Result<void> filter(std::span<const Port> ports);
  /// Whether closes of listeners on this port are.
  [[nodiscard]] bool passes(Port port) const;
  /// @param udp whether closes of UDP sockets are told too
  Result<void> join(bool udp = false);
  void leave();
  [[nodiscard]] bool joined() const { return joined_; }

  struct Batch {
    std::vector<std::uint64_t> cookies;  ///< of the listeners gone, as in a dump
    std::uint64_t closes = 0;            ///< how many there must have been of any kind, about
    bool lost = false;                   ///< the queue overflowed or made no sense: dump now
    bool more = false;                   ///< the batch is full, the queue is not empty yet
  };
  /// At most kBatch events; never blocks.
  [[nodiscard]] Batch drain();

 private:
  static constexpr int kBatch = 64;
  Result<void> change_groups(int option, bool udp);
  void read_event(netlink::Bytes bytes, Batch& batch) const;
  void note(netlink::Bytes payload, Batch& batch) const;

  UniqueFd socket_;
  std::vector<Port> ports_;  ///< of the filter, ascending
  bool joined_ = false;
};

}  // namespace portfwd
