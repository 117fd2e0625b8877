#include "relay/waiting_client.h"

#include <cassert>

#include "kernel/stream.h"

namespace portfwd {

WaitingClient::WaitingClient(EventLoop& loop, AcceptGate& gate, UniqueFd client, Family family,
                             WaitingClientObserver& observer)
    : loop_(loop),
      claim_(gate),
      observer_(observer),
      family_(family),
      client_(std::move(client)),
      source_(loop, client_.get(), *this),
      hold_over_(loop, [this] { observer_.on_hold_over(*this); }) {}

WaitingClient::~WaitingClient() {
  if (client_.valid()) reset_on_close(client_.get());
}

/// EPOLLERR alone: a reset cannot be masked, and an empty mask would deregister.
void WaitingClient::hold(TimePoint deadline) {
  dial_.reset();
  hold_over_.arm_at(deadline);
  (void)source_.watch(EPOLLERR);  // without it a client that is gone is noticed at the deadline
}

UniqueFd WaitingClient::dial(Dialer& dialer, std::span<const Address> candidates,
                             TimePoint deadline) {
  stop();
  DialStart start = dialer.dial(candidates, deadline, *this);
  assert(start.connected.valid() == (start.attempt == nullptr));
  dial_ = std::move(start.attempt);
  return std::move(start.connected);
}

void WaitingClient::stop() {
  hold_over_.disarm();
  source_.disarm();
  dial_.reset();
}

UniqueFd WaitingClient::release() {
  hold_over_.disarm();
  source_.disarm();
  return std::move(client_);
}

void WaitingClient::on_io(IoSource&, std::uint32_t) {
  source_.disarm();
  gone_ = true;
  observer_.on_hold_over(*this);
}

void WaitingClient::on_dialled(Result<UniqueFd> connected) {
  loop_.retire(std::move(dial_));  // which is what calls
  if (connected) {
    observer_.on_connected(*this, std::move(*connected));
  } else {
    observer_.on_dial_failed(*this, connected.error());
  }
}

}  // namespace portfwd
