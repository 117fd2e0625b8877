#include "relay/host_sockets.h"

#include <sys/socket.h>

namespace portfwd {

UniqueFd HostSockets::take(Family family) {
  UniqueFd fd(::socket(address_family(family), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.valid()) context_.tune(fd.get());
  return fd;
}

void HostSockets::await(Family, SocketTaker& taker) {
  waiting_.push_back(&taker);
  refuse_.arm_now();
}

/// A taker may ask again from within: that is for the turn after this one.
void HostSockets::refuse_waiting() {
  for (std::size_t left = waiting_.size(); left > 0 && !waiting_.empty(); --left) {
    SocketTaker& taker = *waiting_.front();
    waiting_.pop_front();
    taker.on_socket(fail("socket", EMFILE));
  }
}

}  // namespace portfwd
