// The kernel's word that a socket is gone, 0.1 ms after the last close: the multicast groups
// SKNLGRP_INET{,6}_{TCP,UDP}_DESTROY of a NETLINK_SOCK_DIAG socket, unprivileged. Owned by a port
// watch. Nothing is said after shutdown(), nor while a child still holds the fd: it supplements
// looking and does not replace it. It keeps no list of listeners.
//
// As long as anybody has joined, the kernel builds a message for every socket closed in that
// namespace, some 10 µs each: leave where connections come and go by the thousands.
// Source: sock_diag(7), net/core/sock_diag.c.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/endpoint.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace portfwd {

/// A classic BPF program over one message: passes sockets without a peer whose own port is listed.
/// Each port is a jump to the one accepting instruction at the end, and a jump spans 255, so with
/// more than kMaxFilteredPorts ports it passes every socket without a peer.
/// Ports need to be in the list; ports that are there in excess only cost a wake-up.
inline constexpr std::size_t kMaxFilteredPorts = 200;
[[nodiscard]] std::vector<sock_filter> destroy_filter(std::span<const Port> ports);

class DestroyEvents {
 public:
  /// @param socket a NETLINK_SOCK_DIAG socket of its own: the filter would drop a dump's answers
  explicit DestroyEvents(UniqueFd socket);

  [[nodiscard]] int fd() const { return socket_.get(); }

  /// Only closes of sockets on these ports are reported from now on (destroy_filter).
  Result<void> filter(std::span<const Port> ports);
  /// @param udp whether closes of UDP sockets are told too
  Result<void> join(bool udp = false);
  void leave();
  [[nodiscard]] bool joined() const { return joined_; }

  struct Batch {
    std::vector<std::uint64_t> cookies;  ///< of the sockets gone, as in a dump
    bool lost = false;                   ///< the queue overflowed or made no sense: dump now
    bool more = false;                   ///< the batch is full, the queue is not empty yet
  };
  /// At most kBatch events; never blocks.
  [[nodiscard]] Batch drain();

 private:
  static constexpr int kBatch = 64;
  Result<void> change_groups(int option, bool udp);

  UniqueFd socket_;
  bool joined_ = false;
};

}  // namespace portfwd
