#include "relay/bridge_dialer.h"

#include <algorithm>

#include "kernel/stream.h"

namespace portfwd {

namespace {

constexpr Error kNotInside{EHOSTUNREACH, "connect to the container's address"};

}  // namespace

/// One attempt: the connection is looked at before it is handed over.
class BridgeDialer::Attempt final : public Dial, private DialHandler {
 public:
  Attempt(BridgeDialer& owner, const std::vector<Endpoint>& addresses, TimePoint deadline,
          DialHandler& handler)
      : owner_(owner), handler_(handler), nowhere_(owner.context_.loop(), [this] {
          handler_.on_dialled(std::unexpected(kNotInside));
        }) {
    if (addresses.empty()) {
      nowhere_.arm_now();
    } else {
      dial_ = owner.dialer_.dial(addresses, deadline, *this);
    }
  }

 private:
  void on_dialled(Result<UniqueFd> connected) override {
    if (connected && !owner_.leads_inside(connected->get())) {
      connected = std::unexpected(kNotInside);
    }
    handler_.on_dialled(std::move(connected));
  }

  BridgeDialer& owner_;
  DialHandler& handler_;
  std::unique_ptr<Dial> dial_;
  Timer nowhere_;
};

Result<BridgeDialer::Inside> BridgeDialer::Inside::open(pid_t pid) {
  auto addresses = ProcNetAddresses::open(pid);
  if (!addresses) return std::unexpected(addresses.error());
  auto table = ProcNetSockets::open(pid);
  if (!table) return std::unexpected(table.error());
  return Inside{std::move(*addresses), std::move(*table)};
}

std::unique_ptr<Dial> BridgeDialer::dial(std::span<const Endpoint> candidates, TimePoint deadline,
                                         DialHandler& handler) {
  return std::make_unique<Attempt>(*this, outside_of(candidates), deadline, handler);
}

std::vector<Endpoint> BridgeDialer::outside_of(std::span<const Endpoint> candidates) {
  const std::vector<IpAddress> own = addresses();
  std::erase_if(proven_, [&](const IpAddress& a) { return std::ranges::count(own, a) == 0; });
  std::vector<Endpoint> out;
  const auto add = [&](const Endpoint& endpoint) {
    if (std::ranges::find(out, endpoint) == out.end()) out.push_back(endpoint);
  };
  for (const Endpoint& candidate : candidates) {
    for (const IpAddress& address : own) {
      const bool meant = candidate.address.is_loopback()
                             ? candidate.address.family() == address.family()
                             : candidate.address == address;
      if (meant) add({address, candidate.port});
    }
  }
  return out;
}

bool BridgeDialer::leads_inside(int connected) {
  const auto ours = local_endpoint(connected);
  const auto theirs = peer_endpoint(connected);
  if (!ours || !theirs) return false;
  if (proven_.contains(theirs->address)) return true;
  const bool inside = inside_.table.has_connection(*theirs, *ours).value_or(false);
  if (inside) proven_.insert(theirs->address);
  return inside;
}

}  // namespace portfwd
