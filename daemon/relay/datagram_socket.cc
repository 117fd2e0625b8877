#include "relay/datagram_socket.h"

#include <sys/socket.h>

#include <utility>

#include "kernel/datagrams.h"

namespace portfwd {

namespace {

constexpr int kMostQueued = 4096;  // who sends faster than that is not waited for

}  // namespace

DatagramSocket::DatagramSocket(EventLoop& loop, BoundSocket bound, IoHandler& handler)
    : endpoint_(bound.address.ip()),
      fd_(std::move(bound.socket)),
      source_(loop, fd_.get(), handler) {
  receive_together(fd_.get());
  if (endpoint_.address.is_any()) tell_arrival_address(fd_.get(), endpoint_.address.family());
  refuse();
}

void DatagramSocket::connect_to(const SockAddr& address) const {
  (void)::connect(fd_.get(), address.get(), address.length);  // to oneself, or to nobody
}

/// Connecting does not empty the queue.
void DatagramSocket::discard() const {
  for (int i = 0; i < kMostQueued; ++i) {
    if (::recv(fd_.get(), nullptr, 0, MSG_DONTWAIT | MSG_TRUNC) < 0) return;
  }
}

void DatagramSocket::refuse() {
  (void)source_.watch(0);
  if (!endpoint_.address.is_any()) connect_to(to_sockaddr(endpoint_));
  discard();
  refusing_ = true;
}

/// Nobody is an address without a family. Source: udp(7), connect(2).
void DatagramSocket::listen(bool heard) {
  if (std::exchange(refusing_, false)) {
    if (endpoint_.address.is_any()) discard();
    SockAddr nobody;
    nobody.storage.ss_family = AF_UNSPEC;
    nobody.length = sizeof(sockaddr);
    connect_to(nobody);
  }
  (void)source_.watch(heard ? EPOLLIN : 0U);
}

}  // namespace portfwd
