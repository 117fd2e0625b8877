
#include "broker/client/socket_pool.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "broker/client/broker_client.h"

namespace portfwd {

namespace {

constexpr Error kUnsupported{EAFNOSUPPORT, "socket"};

}  // namespace

SocketPool::SocketPool(EventLoop& loop, std::shared_ptr<BrokerClient> broker, int netns,
                       Protocol protocol)
    : loop_(loop),
      broker_(std::move(broker)),
      netns_(netns),
      protocol_(protocol),
      turn_away_unsupported_(loop,
                             [this] {
                               for (Shelf& each : shelves_) {
                                 if (each.unsupported) turn_away(each, kUnsupported);
                               }
                             }),
      ask_again_(loop, [this] { ask_again(); }) {}

void SocketPool::prepare(Family family) {
  refill(family);
}

UniqueFd SocketPool::take(Family family) {
  Shelf& from = shelf(family);
  UniqueFd socket;
  if (!from.stock.empty()) {
    socket = std::move(from.stock.back());
    from.stock.pop_back();
  }
  refill(family);
  return socket;
}

void SocketPool::await(Family family, SocketTaker& taker) {
  Shelf& at = shelf(family);
  assert(std::ranges::find(at.takers, &taker) == at.takers.end());  // at most one socket at a time
  at.takers.push_back(&taker);
  if (at.unsupported) {
    turn_away_unsupported_.arm_now();
  } else {
    if (!at.scarce && !short_) at.batch = std::min(2 * at.batch, kLargestBatch);
    refill(family);
  }
}

void SocketPool::withdraw(SocketTaker& taker) noexcept {
  for (Shelf& each : shelves_) std::erase(each.takers, &taker);
}

void SocketPool::refill(Family family) {
  Shelf& at = shelf(family);
  if (at.asking || at.unsupported) return;
  const TimePoint now = loop_.now();
  if (now - at.asked_at > kQuiet && at.takers.empty()) at.batch = kFirstBatch;
  const bool enough = short_ || at.stock.size() > at.batch / 2;
  if (enough && at.takers.empty()) return;
  const std::size_t ahead = short_ ? 0 : at.batch;
  const std::size_t wanted = at.scarce ? at.batch : std::max(ahead, at.takers.size());
  const auto count =
      std::clamp<std::size_t>(wanted - std::min(at.stock.size(), wanted - 1), 1, broker::kMaxCount);
  assert(at.batch >= 1 && at.batch <= kLargestBatch);
  at.asking = true;
  at.asked_at = now;
  const auto request = protocol_ == Protocol::Tcp ? stream_sockets : datagram_sockets;
  at.call = broker_->call(request(family, static_cast<std::uint32_t>(count)), netns_,
                          [this, family](Result<BrokerClient::Sockets> sockets) {
                            arrived(family, std::move(sockets));
                          });
}

void SocketPool::arrived(Family family, Result<BrokerClient::Sockets> sockets) {
  Shelf& at = shelf(family);
  assert(at.asking);  // each question has one answer
  at.asking = false;
  const bool failed = !sockets && BrokerClient::is_brokers_failure(sockets.error());
  const bool failed_before = std::exchange(at.failed_before, failed);
  if (failed && !failed_before) {  // that one is gone; who waits may be served by the next
    if (!at.takers.empty()) refill(family);
    return;
  }
  if (!sockets && sockets.error().code == EMFILE && !at.takers.empty()) {
    at.scarce = true;
    at.batch = std::max(at.batch / 2, 1U);
    return ask_again_.arm_after(kScarcePause);
  }
  if (!sockets) {
    at.unsupported = sockets.error().code == EAFNOSUPPORT;
    turn_away(at, sockets.error());
    return;
  }
  short_ = std::ranges::any_of(
      *sockets, [this](const UniqueFd& fd) { return fd.get() >= limits_.short_from; });
  std::ranges::move(*sockets, std::back_inserter(at.stock));
  while (!at.takers.empty() && !at.stock.empty()) {
    SocketTaker* taker = at.takers.front();
    at.takers.pop_front();
    UniqueFd socket = std::move(at.stock.back());
    at.stock.pop_back();
    taker->on_socket(std::move(socket));
  }
  at.scarce = at.scarce && !at.takers.empty();
  refill(family);
}

void SocketPool::ask_again() {
  for (const Family family : {Family::V4, Family::V6}) {
    if (shelf(family).scarce) refill(family);
  }
}

/// Those who are waiting now; one that awaits again from its callback waits for the next answer.
void SocketPool::turn_away(Shelf& shelf, Error error) {
  for (std::size_t left = shelf.takers.size(); left > 0 && !shelf.takers.empty(); --left) {
    SocketTaker* taker = shelf.takers.front();
    shelf.takers.pop_front();
    taker->on_socket(std::unexpected(error));
  }
}

}  // namespace portfwd
