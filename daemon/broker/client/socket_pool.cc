
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
      fail_unsupported_(loop,
                        [this] {
                          for (FamilyPool& each : pools_) {
                            if (each.unsupported) fail_waiters(each, kUnsupported);
                          }
                        }),
      request_again_(loop, [this] { request_again(); }) {}

void SocketPool::prepare(Family family) {
  refill(family);
}

UniqueFd SocketPool::acquire(Family family) {
  FamilyPool& from = pool_of(family);
  UniqueFd socket;
  if (!from.stock.empty()) {
    socket = std::move(from.stock.back());
    from.stock.pop_back();
  }
  refill(family);
  return socket;
}

void SocketPool::await(Family family, SocketWaiter& waiter) {
  FamilyPool& at = pool_of(family);
  assert(std::ranges::find(at.waiters, &waiter) ==
         at.waiters.end());  // at most one socket at a time
  at.waiters.push_back(&waiter);
  if (at.unsupported) {
    fail_unsupported_.arm_now();
  } else {
    if (!at.low_on_fds && !fd_shortage_) at.batch = std::min(2 * at.batch, kLargestBatch);
    refill(family);
  }
}

void SocketPool::withdraw(SocketWaiter& waiter) noexcept {
  for (FamilyPool& each : pools_) std::erase(each.waiters, &waiter);
}

void SocketPool::refill(Family family) {
  FamilyPool& at = pool_of(family);
  if (at.requested || at.unsupported) return;
  const TimePoint now = loop_.now();
  if (now - at.requested_at > kQuiet && at.waiters.empty()) at.batch = kFirstBatch;
  const bool enough = fd_shortage_ || at.stock.size() > at.batch / 2;
  if (enough && at.waiters.empty()) return;
  const std::size_t ahead = fd_shortage_ ? 0 : at.batch;
  const std::size_t wanted = at.low_on_fds ? at.batch : std::max(ahead, at.waiters.size());
  const auto count =
      std::clamp<std::size_t>(wanted - std::min(at.stock.size(), wanted - 1), 1, broker::kMaxCount);
  assert(at.batch >= 1 && at.batch <= kLargestBatch);
  at.requested = true;
  at.requested_at = now;
  const auto request = protocol_ == Protocol::Tcp ? stream_sockets : datagram_sockets;
  at.call = broker_->call(request(family, static_cast<std::uint32_t>(count)), netns_,
                          [this, family](Result<BrokerClient::Sockets> sockets) {
                            on_sockets(family, std::move(sockets));
                          });
}

void SocketPool::on_sockets(Family family, Result<BrokerClient::Sockets> sockets) {
  FamilyPool& at = pool_of(family);
  assert(at.requested);  // each request has one reply
  at.requested = false;
  const bool failed = !sockets && BrokerClient::is_broker_failure(sockets.error());
  const bool failed_before = std::exchange(at.failed_before, failed);
  if (failed && !failed_before) {  // the next broker may serve the takers
    if (!at.waiters.empty()) refill(family);
    return;
  }
  if (!sockets && sockets.error().code == EMFILE && !at.waiters.empty()) {
    at.low_on_fds = true;
    at.batch = std::max(at.batch / 2, 1U);
    return request_again_.arm_after(kLowOnFdsPause);
  }
  if (!sockets) {
    at.unsupported = sockets.error().code == EAFNOSUPPORT;
    fail_waiters(at, sockets.error());
    return;
  }
  fd_shortage_ = std::ranges::any_of(
      *sockets, [this](const UniqueFd& fd) { return fd.get() >= limits_.short_from; });
  std::ranges::move(*sockets, std::back_inserter(at.stock));
  while (!at.waiters.empty() && !at.stock.empty()) {
    SocketWaiter* waiter = at.waiters.front();
    at.waiters.pop_front();
    UniqueFd socket = std::move(at.stock.back());
    at.stock.pop_back();
    waiter->on_socket(std::move(socket));
  }
  at.low_on_fds = at.low_on_fds && !at.waiters.empty();
  refill(family);
}

void SocketPool::request_again() {
  for (const Family family : {Family::V4, Family::V6}) {
    if (pool_of(family).low_on_fds) refill(family);
  }
}

/// Fails the takers that wait now. A taker that awaits again from its callback waits for the next
/// reply.
void SocketPool::fail_waiters(FamilyPool& pool, Error error) {
  for (std::size_t left = pool.waiters.size(); left > 0 && !pool.waiters.empty(); --left) {
    SocketWaiter* waiter = pool.waiters.front();
    pool.waiters.pop_front();
    waiter->on_socket(std::unexpected(error));
  }
}

}  // namespace portfwd
