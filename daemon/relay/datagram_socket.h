// One host port of a datagram forward: a UDP socket that hears everybody, or refuses. A member of
// its DatagramPort. It knows neither flows nor users.
//
// A UDP socket that hears everybody can't refuse anybody: the kernel sends "port unreachable"
// (ICMP) only where no socket matches. So to refuse, it is connected to itself: it keeps its port,
// nobody else can bind it, nothing matches any more, and the kernel answers every sender
// truthfully. What a sender is told concerns its next datagram at the earliest: one that was
// received can't be given back. A wildcard one can't do so, since connecting gives it one address
// and leaves the others to anybody: it keeps silent. Fact:
// UdpPortFacts.ASocketConnectedToItselfKeepsItsPortAndRefuses
#pragma once

#include "event/event_loop.h"
#include "relay/bound_sockets.h"

namespace portfwd {

class DatagramSocket {
 public:
  /// Refuses at first. @param handler borrowed
  DatagramSocket(EventLoop& loop, BoundSocket bound, IoHandler& handler);
  DatagramSocket(const DatagramSocket&) = delete;
  DatagramSocket& operator=(const DatagramSocket&) = delete;

  /// From now on it is heard, or what comes waits in the kernel until it is.
  void listen(bool heard);
  /// What waits is lost, and whoever sends is refused.
  void refuse();

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const Endpoint& endpoint() const { return endpoint_; }
  [[nodiscard]] bool is(const IoSource& source) const { return &source == &source_; }

 private:
  void connect_to(const SockAddr& address) const;
  void discard() const;

  Endpoint endpoint_;
  UniqueFd fd_;
  IoSource source_;
  bool refusing_ = false;
};

}  // namespace portfwd
