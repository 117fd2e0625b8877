#include "relay/bridge_dialer.h"

#include <sys/socket.h>

#include <algorithm>

#include "kernel/stream.h"

namespace portfwd {

namespace {

constexpr Error kNotInside{EHOSTUNREACH, "connect to the container's address"};

}  // namespace

/// One attempt. The connection is verified before it is passed on. If an address is not proven, the
/// socket is first bound to a port that has no connection inside.
class BridgeDialer::Attempt final : public Dial, private DialHandler, private SocketSource {
 public:
  Attempt(BridgeDialer& owner, const std::vector<Address>& addresses, TimePoint deadline,
          DialHandler& handler)
      : owner_(owner),
        handler_(handler),
        proven_(owner.all_proven(addresses)),
        dialer_(owner.context_, *this),
        fail_timer_(owner.context_.loop(),
                    [this] { handler_.on_dialled(std::unexpected(kNotInside)); }) {
    if (addresses.empty()) {
      fail_timer_.arm_now();
    } else {
      start(addresses, deadline);
    }
  }

  /// The socket that was connected within the constructor, to the container; otherwise invalid.
  [[nodiscard]] UniqueFd take_connected() { return std::move(connected_); }

 private:
  void start(const std::vector<Address>& addresses, TimePoint deadline) {
    auto [connected, attempt] = dialer_.dial(addresses, deadline, *this);
    dial_ = std::move(attempt);
    if (!connected.valid()) return;
    if (!leads_inside(connected.get())) return fail_timer_.arm_now();
    connected_ = std::move(connected);
  }

  UniqueFd acquire(Family family) override {
    UniqueFd socket = owner_.sockets_.acquire(family);
    if (socket.valid() && !proven_) bind_to_verified_port(socket.get(), family);
    return socket;
  }
  void await(Family family, SocketWaiter& waiter) override {
    owner_.sockets_.await(family, waiter);
  }
  void withdraw(SocketWaiter& waiter) noexcept override { owner_.sockets_.withdraw(waiter); }

  void bind_to_verified_port(int socket, Family family) {
    const SockAddr any = to_sockaddr({IpAddress::any(family), 0});
    if (::bind(socket, any.get(), any.length) != 0) return;
    const auto own = local_endpoint(socket);
    if (own && !owner_.inside_.table.has_remote_port(own->port).value_or(true)) {
      verified_ports_.push_back(own->port);
    }
  }

  void on_dialled(Result<UniqueFd> connected) override {
    if (connected && !leads_inside(connected->get())) connected = std::unexpected(kNotInside);
    handler_.on_dialled(std::move(connected));
  }

  [[nodiscard]] bool leads_inside(int connected) const {
    const auto local_end = local_endpoint(connected);
    const auto peer_end = peer_endpoint(connected);
    if (!local_end || !peer_end) return false;
    if (owner_.proven_.contains(peer_end->address)) return true;
    if (std::ranges::count(verified_ports_, local_end->port) == 0) return false;
    const bool inside = owner_.inside_.table.has_connection(*peer_end, *local_end).value_or(false);
    if (inside) owner_.proven_.insert(peer_end->address);
    return inside;
  }

  BridgeDialer& owner_;
  DialHandler& handler_;
  const bool proven_;                 ///< all addresses to dial are
  std::vector<Port> verified_ports_;  ///< our ports that had no connection inside before
  NetnsDialer dialer_;
  std::unique_ptr<Dial> dial_;
  UniqueFd connected_;
  Timer fail_timer_;  ///< no address to dial, or another machine answered
};

Result<BridgeDialer::Inside> BridgeDialer::Inside::open(pid_t pid) {
  auto addresses = ProcNetAddresses::open(pid);
  if (!addresses) return std::unexpected(addresses.error());
  auto table = ProcNetSockets::open(pid);
  if (!table) return std::unexpected(table.error());
  return Inside{std::move(*addresses), std::move(*table)};
}

DialStart BridgeDialer::dial(std::span<const Address> candidates, TimePoint deadline,
                             DialHandler& handler) {
  auto attempt = std::make_unique<Attempt>(*this, outside_of(candidates), deadline, handler);
  if (UniqueFd connected = attempt->take_connected(); connected.valid()) {
    return {std::move(connected), nullptr};
  }
  return {UniqueFd(), std::move(attempt)};
}

std::vector<Address> BridgeDialer::outside_of(std::span<const Address> candidates) {
  const std::vector<IpAddress> own = addresses();
  std::erase_if(proven_, [&](const IpAddress& a) { return std::ranges::count(own, a) == 0; });
  std::vector<Address> out;
  const auto add = [&](const Address& address) {
    if (std::ranges::find(out, address) == out.end()) out.push_back(address);
  };
  for (const Address& dialled : candidates) {
    const Endpoint& candidate = dialled.ip();
    for (const IpAddress& address : own) {
      const bool meant = candidate.address.is_loopback()
                             ? candidate.address.family() == address.family()
                             : candidate.address == address;
      if (meant) add(Endpoint{address, candidate.port});
    }
  }
  return out;
}

bool BridgeDialer::all_proven(const std::vector<Address>& addresses) const {
  return std::ranges::all_of(
      addresses, [this](const Address& address) { return proven_.contains(address.ip().address); });
}

}  // namespace portfwd
