#include "relay/flow.h"

#include <algorithm>
#include <cassert>

namespace portfwd {

void Flow::dial(Dialer& dialer, std::span<const Address> candidates, TimePoint deadline) {
  DialStart start = dialer.dial(candidates, deadline, *this);
  dial_ = std::move(start.attempt);
  if (start.connected.valid()) on_dialled(std::move(start.connected));
}

void Flow::on_dialled(Result<UniqueFd> connected) {
  loop_.retire(std::move(dial_));
  if (!connected) return observer_.on_flow_failed(*this, connected.error());
  socket_ = std::move(*connected);
  receive_together(socket_.get());
  source_.emplace(loop_, socket_.get(), static_cast<IoHandler&>(*this));
  if (const auto armed = source_->watch(EPOLLIN); !armed) {
    source_.reset();
    socket_.reset();
    return observer_.on_flow_failed(*this, armed.error());
  }
  observer_.on_flow_connected(*this);
}

void Flow::end() {
  assert(!ended_);
  ended_ = true;
  dial_.reset();
  if (source_) source_->disarm();
}

DatagramsSent Flow::deliver(std::span<const Datagrams> messages) {
  if (socket_.valid()) return send_datagrams(socket_.get(), messages);
  for (const Datagrams& message : messages) keep(message);
  return {};
}

void Flow::keep(const Datagrams& message) {
  for (std::size_t at = 0; at < message.bytes.size() || at == 0; at += message.each) {
    const auto rest = message.bytes.subspan(at);
    const auto one = rest.first(std::min(message.each, rest.size()));
    kept_bytes_ += std::max(one.size(), kLeastCharge);
    if (kept_bytes_ > kMostKept && !kept_.empty()) return;
    kept_.emplace_back(one.begin(), one.end());
    if (message.each == 0) return;
  }
}

DatagramsSent Flow::deliver_kept() {
  const auto kept = std::exchange(kept_, {});
  std::vector<Datagrams> messages;
  messages.reserve(kept.size());
  for (const auto& one : kept) messages.push_back({one, one.size()});
  return send_datagrams(socket_.get(), messages);
}

}  // namespace portfwd
