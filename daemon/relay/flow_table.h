// Which flow a datagram belongs to, and which flow goes next: found by the client's address, kept
// in the order of their last use, one order for each rank, so that whatever is asked takes the same
// time with one flow as with thousands. Owned by a DatagramPort. It knows no sockets: a Flow is
// anything that has `key`, `used`, `rank()` and `place`.
//
// Nothing tells which program a client belongs to: on loopback all have one address. So what
// protects a flow from a program that opens ports by the thousands is what it has carried.
#pragma once

#include <algorithm>
#include <array>
#include <cassert>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "net/endpoint.h"

namespace portfwd {

/// Two clients are one if nobody can tell them apart.
struct FlowKey {
  Endpoint client;
  std::optional<IpAddress> at;  ///< the address of ours that it talks to, where there are several
  friend bool operator==(const FlowKey&, const FlowKey&) = default;
};

struct FlowKeyHash {
  std::size_t operator()(const FlowKey& key) const {
    const IpAddress& address = key.client.address;
    const auto* const bytes = reinterpret_cast<const char*>(address.data());
    const std::size_t hash = std::hash<std::string_view>{}({bytes, address.size()});
    return hash ^ (std::size_t{key.client.port} * 0x9e3779b97f4a7c15U);
  }
};

/// What would be lost with a flow, the least first.
enum class FlowRank : std::uint8_t {
  Answered,    ///< a question and its answer, one datagram each, as DNS has it
  Fleeting,    ///< as little, and nothing says that it is over
  Young,       ///< up to kYoung datagrams
  Established  ///< more
};

/// @param asked, answered datagrams so far, each way
[[nodiscard]] constexpr FlowRank flow_rank(std::uint64_t asked, std::uint64_t answered) {
  constexpr std::uint64_t kYoung = 16;
  if (asked == 1 && answered == 1) return FlowRank::Answered;
  if (asked + answered <= 2) return FlowRank::Fleeting;
  return asked + answered <= kYoung ? FlowRank::Young : FlowRank::Established;
}

template <class Flow>
class FlowTable {
  using Order = std::list<std::unique_ptr<Flow>>;

 public:
  /// Where a flow is kept; the table's own.
  struct Place {
    FlowRank rank = FlowRank::Fleeting;
    typename Order::iterator at;
    std::size_t* of_client = nullptr;  ///< how many flows its client's address has
  };

  static constexpr Duration kIdle = std::chrono::seconds(90);
  /// Of a question that was answered.
  static constexpr Duration kBriefIdle = std::chrono::seconds(10);

  [[nodiscard]] Flow* find(const FlowKey& key) const {
    const auto found = by_key_.find(key);
    return found == by_key_.end() ? nullptr : found->second;
  }
  Flow& add(std::unique_ptr<Flow> flow, TimePoint now) {
    Flow& added = *flow;
    assert(find(added.key) == nullptr);
    by_key_.emplace(added.key, &added);
    added.used = now;
    Order& order = orders_[index(FlowRank::Fleeting)];
    added.place = {FlowRank::Fleeting, order.insert(order.end(), std::move(flow)),
                   &clients_[added.key.client.address]};
    ++*added.place.of_client;
    return added;
  }
  [[nodiscard]] std::unique_ptr<Flow> remove(Flow& flow) {
    assert(find(flow.key) == &flow && flow.place.at->get() == &flow);
    assert(*flow.place.of_client > 0);
    by_key_.erase(flow.key);
    if (--*flow.place.of_client == 0) clients_.erase(flow.key.client.address);
    std::unique_ptr<Flow> out = std::move(*flow.place.at);
    order_of(flow).erase(flow.place.at);
    return out;
  }
  /// It carried something just now.
  void touch(Flow& flow, TimePoint now) {
    assert(find(flow.key) == &flow);
    flow.used = now;
    Order& from = order_of(flow);
    flow.place.rank = flow.rank();
    Order& to = order_of(flow);
    to.splice(to.end(), from, flow.place.at);
  }

  /// When the next one will have been idle for too long; nothing while there is none.
  [[nodiscard]] std::optional<TimePoint> next_expiry() const {
    std::optional<TimePoint> next;
    for (const Order& order : orders_) {
      if (!order.empty()) next = std::min(next.value_or(TimePoint::max()), end_of(*order.front()));
    }
    return next;
  }
  /// One that has been idle for too long, or null.
  [[nodiscard]] Flow* expired(TimePoint now) const {
    for (const Order& order : orders_) {
      if (!order.empty() && end_of(*order.front()) <= now) return order.front().get();
    }
    return nullptr;
  }

  /// The one to give up for another: of the client addresses that have their share of the table or
  /// more, the flow of the lowest rank that was used longest ago. With one address that is the
  /// first; those of addresses that have less are passed over. There must be one.
  [[nodiscard]] Flow& to_evict() const {
    assert(!empty());
    const std::size_t share = size() / clients_.size();
    for (const Order& order : orders_) {
      for (const auto& flow : order) {
        if (*flow->place.of_client >= share) return *flow;
      }
    }
    return any();  // not reached: not all can have less than their share
  }

  [[nodiscard]] std::size_t size() const { return by_key_.size(); }
  [[nodiscard]] bool empty() const { return by_key_.empty(); }
  [[nodiscard]] Flow& any() const {
    assert(!empty());
    return *by_key_.begin()->second;
  }
  /// Takes time with each flow.
  template <class Predicate>
  [[nodiscard]] std::vector<Flow*> all_that(const Predicate& holds) const {
    std::vector<Flow*> out;
    for (const auto& [key, flow] : by_key_) {
      if (holds(*flow)) out.push_back(flow);
    }
    return out;
  }

 private:
  static std::size_t index(FlowRank rank) { return static_cast<std::size_t>(rank); }
  [[nodiscard]] Order& order_of(const Flow& flow) { return orders_[index(flow.place.rank)]; }
  static TimePoint end_of(const Flow& flow) {
    return flow.used + (flow.place.rank == FlowRank::Answered ? kBriefIdle : kIdle);
  }

  std::unordered_map<FlowKey, Flow*, FlowKeyHash> by_key_;
  std::map<IpAddress, std::size_t> clients_;  ///< flows of each
  std::array<Order, 4> orders_;               ///< by rank, the one used longest ago first
};

}  // namespace portfwd
